"""Python snippets of README and docs run as they stand, the commands that they show exist, and no public name is forgotten."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import rheobase
from rheobase.cli import COMMANDS
from rheobase.recipes import RECIPES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)
REFERENCE = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.parent.name == "reference")


def snippets(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def commands(page: Path) -> list[str]:
    return re.findall(r"^\$ rheobase (.*?)(?: *#.*| \|.*)?$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


# Of the README each snippet stands for itself; those of a page in docs/ go on where the one before ended.
PROGRAMS = {name(page): "\n".join(snippets(page)) for page in PAGES if snippets(page)}
COMMAND_LINES = sorted({line for page in (README, *PAGES) for line in commands(page)})


def run(*command: str, cwd: Path, text: str = "") -> None:
    """In a process of its own, as a user would: only the page's own imports are there."""
    python = [sys.executable, "-W", "error", *command]
    done = subprocess.run(python, cwd=cwd, input=text, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("snippet", snippets(README), ids=lambda snippet: snippet.strip().splitlines()[-1][:40])
def test_python_snippets_of_the_readme_run(snippet: str, tmp_path: Path) -> None:
    run("-c", snippet, cwd=tmp_path)


def test_python_snippets_of_the_pages_run(tmp_path: Path) -> None:
    # One process for all, for kernels are compiled in each; a page that fails is named in the traceback.
    each = "import json, sys\nfor page, text in json.load(sys.stdin).items(): exec(compile(text, page, 'exec'), {})"
    run("-c", each, cwd=tmp_path, text=json.dumps(PROGRAMS))


def test_there_are_snippets() -> None:
    assert len(snippets(README)) == 3
    assert len(PROGRAMS) >= 17
    assert len(COMMAND_LINES) >= 20


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_exists(line: str) -> None:
    command, *rest = line.split()
    assert command == "train" or command in COMMANDS
    if command == "train" and rest and not rest[0].startswith("-"):
        assert rest[0] in RECIPES


@pytest.mark.parametrize("command", ["train", *COMMANDS])
def test_the_reference_has_every_command(command: str) -> None:
    assert f"`rheobase {command}" in REFERENCE


MODULES = [
    rheobase,
    *(value for value in map(rheobase.__dict__.get, rheobase.__all__) if isinstance(value, ModuleType)),
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_reference_has_every_public_name(module: ModuleType) -> None:
    for public in getattr(module, "__all__", ()):
        if isinstance(getattr(module, public), ModuleType):
            continue
        places = [f"rheobase.{public}", f"{module.__name__}.{public}"]
        assert any(re.search(rf":: {re.escape(place)}$", REFERENCE, flags=re.MULTILINE) for place in places), public


def test_links_of_the_readme_lead_somewhere() -> None:
    # Those of docs/ are checked where they are built: `make docs`.
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README.read_text(encoding="utf-8"))
    assert len(targets) > 20
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).exists(), target
