"""The scripts in tools/ and benchmarks/ as modules, for their tests."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import patch


def load_tool(name: str, folder: str = "tools") -> ModuleType:
    path = Path(__file__).parents[1] / folder / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    tool = importlib.util.module_from_spec(spec)
    with patch.object(sys, "path", [str(path.parent), *sys.path]):  # as when it is run: it may import a neighbour
        spec.loader.exec_module(tool)
    return tool
