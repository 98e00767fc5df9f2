"""benchmarks/gpu_kernels.py is for a machine with a GPU; here it checks the kernels in Triton's interpreter, and so itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_kernels.py"


def run(output, **environment):
    command = [sys.executable, SCRIPT, "checks", "--output", output]
    return subprocess.run(
        command,
        env=os.environ | environment | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_its_checks(tmp_path):
    process = run(tmp_path / "results.json", TRITON_INTERPRET="1")
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["checks"]) == 7
    assert all(check["right"] for check in results["checks"])
