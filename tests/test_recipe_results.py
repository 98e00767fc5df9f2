"""Tests of tools/recipe_results.py, which makes the README's table."""

import json
from pathlib import Path

from load_tool import load_tool
from report_runs import make_run


def test_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    tool, runs = load_tool("recipe_results"), []
    for seed, (recipe, accuracy, seconds) in enumerate(
        [("digits", 0.90, 60.0), ("digits", 0.92, 120.0), ("digits", 0.94, 600.0), ("alone", 0.5, 30.0)]
    ):
        run = make_run(tmp_path / str(seed), epochs=2, neurons=(4,), steps=5, inputs=3)
        for name, changes in (
            ("config.json", {"recipe": recipe, "seed": seed}),
            ("summary.json", {"test_accuracy": accuracy, "seconds": seconds}),
        ):
            content = json.loads((run / name).read_text()) | changes
            (run / name).write_text(json.dumps(content))
        runs.append(run)
    collected = tool.collect(runs)
    assert [result["test_accuracy"] for result in collected] == [0.90, 0.92, 0.94, 0.5]
    assert json.loads(json.dumps(collected)) == collected
    rows = tool.table(collected).splitlines()[2:]
    assert rows == [
        "| `digits --epochs 2` | 92.00 ± 2.00 % | 0, 1, 2 | 2 | 2.0 min |",
        "| `alone --epochs 2` | 50.00 % | 3 | 2 | 0.5 min |",
    ]


def test_options_are_told_and_repeated_runs_replaced() -> None:
    tool = load_tool("recipe_results")
    said = "rheobase train digits --seed 1 --longest-delay 12 --name a --hidden 8"
    one = {"recipe": "digits", "command": said, "seed": 1, "test_accuracy": 0.5}
    assert tool.settings(one) == "digits --longest-delay 12 --hidden 8"
    other = {**one, "seed": 2}
    plain = {**one, "command": "rheobase train digits --seed 1"}
    assert tool.merge([one, other, plain], [{**one, "test_accuracy": 0.6}]) == [
        other,
        plain,
        {**one, "test_accuracy": 0.6},
    ]
