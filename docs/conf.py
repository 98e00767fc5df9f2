"""How Sphinx builds the documentation: Markdown pages, and a reference made of the docstrings."""

import inspect
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

import rheobase

project = "Rheobase"
author = "the Rheobase developers"
release = rheobase.__version__
copyright = "the Rheobase developers"
html_title = f"Rheobase {release}"
html_theme = "furo"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = False

myst_heading_anchors = 3

# Docstrings write code between single backticks, as Markdown does.
default_role = "literal"
napoleon_custom_sections = [("Source", "notes")]
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False


def literal_equations(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Show an indented block of a docstring's text, an equation, as it stands; reStructuredText calls it a quotation."""
    shown: list[str] = []
    inside, section = False, False
    for index, line in enumerate(lines):
        indented = line.startswith("    ")
        if line and not indented:
            inside = False
            section = line.endswith(":") and line.rstrip(":").isalpha() and (not index or not lines[index - 1])
        elif indented and not inside and not section and not lines[index - 1]:
            inside = True
            shown += ["::", ""]
        shown.append(line)
    lines[:] = shown


def tables(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Show the tables of a docstring, which are written as Markdown does."""
    shown: list[str] = []
    for index, line in enumerate(lines):
        if not line.startswith("|"):
            shown.append(line)
            continue
        if not lines[index - 1].startswith("|"):
            shown += [".. list-table::", "   :header-rows: 1", ""]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if set(line) - set("|- "):  # no rule below the heading
            shown += [f"   {'  ' if column else '* '}- {cell}" for column, cell in enumerate(cells)]
    lines[:] = shown


def own_signature(
    app: Sphinx, what: str, name: str, obj: object, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Of a layer that keeps its settings, `__init__` has the arguments; `__new__`, which does the keeping, takes all."""
    if what != "class" or not signature or not signature.startswith("(*_arguments"):
        return signature, returns
    taken = inspect.signature(obj.__init__)  # pyright: ignore[reportAttributeAccessIssue]
    rest = [argument for argument in taken.parameters.values() if argument.name != "self"]
    shown = inspect.Signature(rest)
    return stringify_signature(shown, unqualified_typehints=True), None


def setup(app: Sphinx) -> None:
    """Run before napoleon, which turns the sections of a docstring into reStructuredText."""
    app.connect("autodoc-process-docstring", literal_equations, priority=400)
    app.connect("autodoc-process-docstring", tables, priority=400)
    app.connect("autodoc-process-signature", own_signature)
