"""The doctor on the command line: on recipes and on runs."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import rheobase as rb
from rheobase import recipes
from rheobase.checkup import checkup
from rheobase.cli import main
from rheobase.data import Splits, spoken_digits
from rheobase.recipes import RECIPES, Entry, SpokenDigits
from rheobase.training import Display, Training

SMALL = SpokenDigits(
    hidden=(8,), steps=10, dt=0.08, training=Training(epochs=1, batch_size=32, threads=1, device="cpu")
)


recordings = cache(spoken_digits)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "RECIPES", {**RECIPES, "spoken-digits": Entry(SMALL, "to be small")})
    monkeypatch.setattr("rheobase.recipes.spoken_digits.spoken_digits", recordings)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    SMALL.train(SMALL.splits(), run=folder, about={"recipe": "spoken-digits"}, display=Display())
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    status = main(["doctor", *arguments])
    captured = capsys.readouterr()
    assert (status, captured.err) == (0, "")
    return captured.out


def test_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "spoken-digits")
    assert out.startswith(
        "spoken-digits, new: Sequential on T = 10 steps, B = 32 samples, 140 inputs: values from 0 to "
    )
    assert re.search(r"2 LIF\(8\) +\d+\.\d% ", out)
    assert "Nothing is wrong" in out or "remedy: " in out
    assert said(capsys, "spoken-digits") == out


def test_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, str(run))
    assert f"{run}, weights of epoch 1: Sequential on T = 10" in out.replace("\n", "")
    new, trained = (json.loads(said(capsys, target, "--json")) for target in ("spoken-digits", str(run)))
    assert new["measures"].keys() == trained["measures"].keys()
    assert new["measures"]["loss"] > trained["measures"]["loss"]


def test_a_run_is_looked_at_with_the_surrogates_that_it_was_trained_with(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def prepare(self: SpokenDigits, network: torch.nn.Module, splits: object) -> None:
        network[2].surrogate = rb.surrogate.FastSigmoid(dampening=1e-3)

    monkeypatch.setattr(SpokenDigits, "prepare", prepare)
    SMALL.train(SMALL.splits(), run=tmp_path / "one", about={"recipe": "spoken-digits"}, display=Display())
    (layer,) = checkup(str(tmp_path / "one"), lambda recipe: recipe.splits()).measures.layers
    assert layer.surrogate == rb.surrogate.FastSigmoid(dampening=1e-3)


def test_a_recipe_that_is_dead_at_birth(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(self: SpokenDigits, network: torch.nn.Module, splits: object) -> None:
        torch.nn.init.constant_(network[1].bias, -50.0)

    monkeypatch.setattr(SpokenDigits, "prepare", kill)
    out = " ".join(said(capsys, "spoken-digits").split())
    assert "remedy: rb.stabilize(network, batch)" in out
    assert out.endswith("In a recipe, calls go into its method prepare(network, splits).")
    found = json.loads(said(capsys, "spoken-digits", "--json"))
    assert [finding["kind"] for finding in found["findings"]] == ["dead", "threshold out of reach"]
    assert {finding["layer"] for finding in found["findings"]} == {"2 LIF(8)"}


def test_a_recipe_that_was_treated_where_the_doctor_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def treat(self: SpokenDigits, network: torch.nn.Module, splits: Splits) -> None:
        torch.nn.init.constant_(network[1].bias, -50.0)
        rb.stabilize(network, splits.train.batch(np.arange(32))[0])

    monkeypatch.setattr(SpokenDigits, "prepare", treat)
    out = said(capsys, "spoken-digits")
    assert "Nothing is wrong" in out
    assert "prepare" not in out


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "spoken-digit",
            "spoken-digit: there is no run folder of this name, and there is no recipe 'spoken-digit'; did you",
        ),
        (".", "not the folder of a run, it has no config.json"),
        ("mnist", "no data"),
    ],
)
def test_a_slip(
    target: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RHEOBASE_DATA", str(tmp_path / "no data"))
    assert main(["doctor", target]) == 2
    assert message in capsys.readouterr().err


def test_a_run_without_weights(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((run / "config.json").read_bytes())
    assert main(["doctor", str(tmp_path)]) == 2
    assert "best.safetensors: there is no such checkpoint" in capsys.readouterr().err
