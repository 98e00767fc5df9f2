"""Run folders for the tests of the report: realistic, made up from a seed, in the shape that training writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def make_run(
    folder: Path,
    *,
    finished: bool = True,
    epochs: int = 40,
    neurons: tuple[int, ...] = (256, 128),
    inputs: int = 70,
    steps: int = 100,
    classes: tuple[str, ...] = DIGITS,
    dt: float = 0.01,
    holdout: bool = False,
    analog: bool = False,
    wrong: bool = False,
) -> Path:
    """Write a run folder and return it."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    names = [f"{k + 1} LIF({size})" for k, size in enumerate(neurons)]
    _write(folder / "config.json", config(names, epochs))
    lines = [json.dumps(epoch_metrics(number, epochs, names)) for number in range(1, epochs + 1)]
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if not finished:
        return folder

    confusion = _confusion(rng, len(classes))
    samples = int(confusion.sum())
    accuracy = float(np.trace(confusion) / samples)
    arrays: dict[str, Any] = {
        "confusion": confusion,
        "classes": np.array(classes),
        "layers": np.array(names),
        "sample_label": np.array(3 % len(classes)),
        "sample_prediction": np.array(8 % len(classes) if wrong else 3 % len(classes)),
        "dt": np.array(dt),
        "raster_input": _spikes(rng, steps, inputs, 0.06) * rng.integers(1, 4, (steps, inputs)).astype(np.float32),
        "output": _membrane(rng, steps, len(classes), 8 % len(classes) if wrong else 3 % len(classes)),
    }
    if analog:
        arrays["raster_input"] = rng.normal(0, 0.4, (steps, inputs)).astype(np.float32)
    layers = []
    for k, (name, size) in enumerate(zip(names, neurons, strict=True)):
        rates = rng.gamma(1.6, 0.03, size).astype(np.float32)
        rates[rng.random(size) < 0.06] = 0
        arrays[f"rates_{k}"] = np.minimum(rates, 1)
        arrays[f"raster_{k}"] = _spikes(rng, steps, size, rates * 1.5).astype(np.uint8)
        fan_out = (*neurons[1:], len(classes))[k]
        spikes = float(rates.sum() * steps)
        layers.append(
            {
                "name": name,
                "rate": float(rates.mean()),
                "dead": float(np.mean(rates == 0)),
                "silent": 0.2,
                "saturated": 0.0,
            }
            | {"neurons": size, "spikes_per_sample": spikes, "synaptic_operations_per_sample": spikes * fan_out}
        )
    np.savez_compressed(folder / "evaluation.npz", **arrays)
    summary = {
        "test_accuracy": accuracy,
        "test_loss": 0.41,
        "validation_accuracy": 0.915,
        "best_epoch": max(1, epochs * 3 // 4),
        "epochs": epochs,
        "seconds": 151.2,
        "samples_per_second": 1150.4,
        "peak_memory_mib": 612.3,
        "samples": {"train": 2430, "validation": 270, "test": samples},
        "layers": layers,
        "input": {"spikes_per_sample": 1204.5, "synaptic_operations_per_sample": 1204.5 * (*neurons, len(classes))[0]},
    }
    if holdout:
        summary["also_tested"] = {"unheard speaker theo": {"accuracy": 0.624, "samples": 500}}
    _write(folder / "summary.json", summary)
    return folder


def config(layers: list[str], epochs: int) -> dict[str, Any]:
    return {
        "recipe": "spoken-digits",
        "description": "Spoken digits through a cochlea model, classified by a feed-forward spiking network.",
        "config": {
            "epochs": epochs,
            "batch_size": 64,
            "learning_rate": 0.002,
            "data": {"steps": 100, "dt": 0.01, "augment": {"shift": 4, "stretch": [0.8, 1.2]}},
            "network": {"hidden": [256, 128], "decay": 0.95, "learn": ["decay", "threshold"], "surrogate": "arctan"},
            "out": None,
        },
        "command": f"rheobase train spoken-digits --epochs {epochs}",
        "seed": 0,
        "versions": {"rheobase": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6"},
        "machine": {"platform": "Linux-6.1-x86_64", "processor": "x86_64", "cores": 2, "device": "cpu"},
        "parameters": 54321,
        "layers": ["0 Linear(70, 256)", *layers, "LeakyReadout(10)"],
        "commit": None,
    }


def epoch_metrics(epoch: int, epochs: int, layers: list[str]) -> dict[str, Any]:
    rng = np.random.default_rng(epoch)
    progress = 1 - np.exp(-4 * epoch / epochs)
    return {
        "epoch": epoch,
        "epochs": epochs,
        "loss": float(2.3 * (1 - progress) + 0.12 + 0.02 * rng.random()),
        "train_accuracy": float(0.1 + 0.88 * progress),
        "validation_loss": float(2.3 * (1 - progress) + 0.28 + 0.08 * rng.random() + 0.1 * progress),
        "validation_accuracy": float(0.1 + 0.80 * progress + 0.02 * rng.random()),
        "learning_rate": float(0.001 * (1 + np.cos(np.pi * epoch / epochs))),
        "seconds": 3.7 + float(rng.random()) * 0.2,
        "samples_per_second": 1150.0,
        "layers": [
            {
                "name": name,
                "rate": 0.05,
                "dead": float(0.06 + 0.25 * np.exp(-epoch / 6) * (k + 1) / len(layers)),
                "silent": float(0.2 + 0.4 * np.exp(-epoch / 6)),
                "saturated": float(0.04 * np.exp(-epoch / 4)),
            }
            for k, name in enumerate(layers)
        ],
    }


def _confusion(rng: np.random.Generator, classes: int) -> np.ndarray:
    likely = np.eye(classes) * 0.88 + 0.12 * rng.dirichlet(np.full(classes, 0.3), classes)
    return np.stack([rng.multinomial(30, row / row.sum()) for row in likely]).astype(np.int64)


def _spikes(rng: np.random.Generator, steps: int, neurons: int, rate: Any) -> np.ndarray:
    """Spikes whose probability swells and ebbs as in a spoken word, with a band that wanders over the neurons."""
    time, place = np.linspace(0, 1, steps)[:, None], np.linspace(0, 1, neurons)[None, :]
    envelope = np.exp(-(((time - 0.45) / 0.2) ** 2)) * 2
    band = 0.4 + 2 * np.exp(-(((place - 0.3 - 0.4 * np.sin(3 * time)) / 0.15) ** 2))
    return (rng.random((steps, neurons)) < rate * envelope * band).astype(np.float32)


def _membrane(rng: np.random.Generator, steps: int, classes: int, winner: int) -> np.ndarray:
    drive = rng.normal(0, 0.25, (steps, classes)) + rng.normal(0, 0.03, classes)
    drive[:, winner] += 0.12 * np.exp(-(((np.linspace(0, 1, steps) - 0.5) / 0.25) ** 2))
    return (np.cumsum(drive, axis=0) * 0.15).astype(np.float32)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
