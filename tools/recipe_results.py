"""The table of results in the README, from the folders of the runs that it is about.

    for seed in 0 1 2; do rheobase train mnist --seed $seed --name mnist-$seed; done
    python tools/recipe_results.py runs/mnist-0 runs/mnist-1 runs/mnist-2

Adds what was found, with commands, versions and machine, to benchmarks/results/recipes.json, in the place of earlier runs of
the same settings and seed, and prints all of it as a Markdown table: mean and standard deviation over the seeds.
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "recipes.json"


def collect(runs: list[Path]) -> list[dict[str, object]]:
    """What is worth keeping of each run."""
    results = []
    for run in runs:
        config, summary = (json.loads((run / name).read_text()) for name in ("config.json", "summary.json"))
        results.append(
            {
                **{
                    key: config[key] for key in ("recipe", "seed", "command", "config", "versions", "machine", "commit")
                },
                **{
                    key: summary[key]
                    for key in ("test_accuracy", "validation_accuracy", "best_epoch", "epochs", "seconds")
                },
                "samples": summary["samples"],
                "layers": summary["layers"],
            }
        )
    return results


def settings(result: dict[str, object]) -> str:
    """The recipe and the options that it was trained with, but those that only say which run it is."""
    options = str(result["command"]).partition(" train ")[2].split(" --")[1:]
    said = [f"--{option}" for option in options if option.split()[0] not in ("seed", "name", "runs", "json", "quiet")]
    return " ".join([str(result["recipe"]), *said])


def merge(before: list[dict[str, object]], results: list[dict[str, object]]) -> list[dict[str, object]]:
    """All results; those that were repeated only as they are now."""
    new = {(settings(result), result["seed"]) for result in results}
    return [result for result in before if (settings(result), result["seed"]) not in new] + results


def table(results: list[dict[str, object]]) -> str:
    """One row for each recipe and its options: test accuracy, and training time of the median run."""
    by_recipe = defaultdict(list)
    for result in results:
        by_recipe[settings(result)].append(result)
    lines = ["| recipe | test accuracy | seeds | epochs | training time |", "| --- | --- | --- | --- | --- |"]
    for recipe, group in by_recipe.items():
        accuracies = [100 * result["test_accuracy"] for result in group]
        spread = f" ± {statistics.stdev(accuracies):.2f}" if len(group) > 1 else ""
        minutes = statistics.median(result["seconds"] for result in group) / 60
        seeds = ", ".join(str(result["seed"]) for result in group)
        lines.append(
            f"| `{recipe}` | {statistics.mean(accuracies):.2f}{spread} % | {seeds} | {group[0]['epochs']} | {minutes:.1f} min |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    collected = collect([Path(argument) for argument in sys.argv[1:]])
    if not collected:
        sys.exit(__doc__)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    everything = merge(before, collected)
    RESULTS.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    print(table(everything))
