"""Every Python snippet of the README runs as it stands, and every command that it shows exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rheobase.cli import COMMANDS
from rheobase.recipes import RECIPES

README = Path(__file__).parents[1] / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
COMMAND_LINES = re.findall(
    r"^\$ rheobase (.*?)(?: *#.*| \|.*)?$", README.read_text(encoding="utf-8"), flags=re.MULTILINE
)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.strip().splitlines()[-1][:40])
def test_python_snippet_runs(snippet: str, tmp_path: Path) -> None:
    # In a process of its own, as a user would: only the snippet's own imports are there.
    done = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) == 9
    assert len(COMMAND_LINES) >= 6


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_exists(line: str) -> None:
    command, *rest = line.split()
    assert command == "train" or command in COMMANDS
    if command == "train" and rest and not rest[0].startswith("-"):
        assert rest[0] in RECIPES
