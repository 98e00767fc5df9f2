"""The content of a run folder, read defensively.

A report may be requested for a run that is still going, that was killed, or whose folder came from somebody else. Everything
that the page relies on is therefore checked here, once, and passed on in typed records: the modules that draw and write never
see a missing key or an array of the wrong shape. A non-finite number is not damage (a loss can overflow); it becomes NaN, which
the charts leave out.

The folder holds `config.json` (written at the start), `metrics.jsonl` (a line after every epoch) and, once the run
is finished, `summary.json` and `evaluation.npz`.
"""

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from rheobase.errors import RunError
from rheobase.report.fields import Fields, parse, read_text


@dataclass(frozen=True)
class Setup:
    """The settings of a run, and where it ran: `config.json`."""

    recipe: str | None
    """None for a user's own network, about which the command line knows nothing more."""
    description: str
    command: str
    seed: int
    commit: str | None
    parameters: int
    layers: tuple[str, ...]
    config: dict[str, Any]
    versions: dict[str, Any]
    machine: dict[str, Any]

    @property
    def title(self) -> str:
        """The title of the report."""
        return self.recipe or "A network of your own"


@dataclass(frozen=True)
class LayerHealth:
    """Activity of one spiking layer over the validation set; all values are fractions (rate: spikes per step)."""

    name: str
    rate: float
    dead: float
    silent: float
    """NaN if the run did not count it."""
    saturated: float
    fires_once_in: int | None
    """Steps, for neurons that fire once; None for all others, and if the run did not record it."""


@dataclass(frozen=True)
class Epoch:
    """One line of `metrics.jsonl`."""

    epoch: int
    epochs: int
    loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float
    layers: tuple[LayerHealth, ...]


@dataclass(frozen=True)
class Work:
    """The cost per sample of one source of spikes: the input, or a layer."""

    spikes: float
    synaptic_operations: float
    analog: bool = False
    """Whether these are not spikes, but nonzero values of the input."""


@dataclass(frozen=True)
class LayerSummary:
    """Activity, size and cost of one spiking layer over the evaluated set."""

    health: LayerHealth
    neurons: int
    work: Work


@dataclass(frozen=True)
class Other:
    """Accuracy on a further set evaluated once at the end, such as a speaker left out of training."""

    name: str
    accuracy: float
    """NaN where there are no classes."""
    loss: float
    """NaN if the run did not write it."""
    samples: int


@dataclass(frozen=True)
class Summary:
    """The result of the run: `summary.json`."""

    split: str
    """The set that the network was evaluated on: `"test"`, or `"validation"` without a test set."""
    accuracy: float
    """NaN without classes; likewise that of validation."""
    loss: float
    validation_accuracy: float
    validation_loss: float
    best_epoch: int
    epochs: int
    seconds: float
    samples_per_second: float
    peak_memory_mib: float
    samples: dict[str, int]
    layers: tuple[LayerSummary, ...]
    input: Work
    others: tuple[Other, ...]
    measures: dict[str, float]
    """Further measures of the recipe, by name."""


@dataclass(frozen=True)
class ClassPredictions:
    """How samples, or steps, were classified, and the true and the predicted class of the sample shown in detail."""

    classes: tuple[str, ...]
    confusion: Int[np.ndarray, "C C"]
    label: int | None
    """None if every step has a class; likewise the prediction."""
    prediction: int | None

    @property
    def counted(self) -> str:
        """The noun for what has a class, in the singular."""
        return "step" if self.label is None else "sample"


@dataclass(frozen=True)
class ValuePredictions:
    """Targets and predictions of the first samples; the first is the one shown in detail."""

    targets: Float[np.ndarray, "m ..."]
    predictions: Float[np.ndarray, "n ..."]


@dataclass(frozen=True)
class Evaluation:
    """The trained network's results on the test set (or the validation set), and on one sample in detail: `evaluation.npz`.

    `rates[k]` and `rasters[k]` belong to the spiking layer `layers[k]`, each layer with its own N; `dt` is NaN if steps have no
    unit.
    """

    predictions: ClassPredictions | ValuePredictions
    layers: tuple[str, ...]
    rates: tuple[Float[np.ndarray, " _"], ...]
    rasters: tuple[UInt8[np.ndarray, "T _"] | Float[np.ndarray, "T _"], ...]
    """Ones and zeros; or the probabilities of spikes."""
    raster_input: Float[np.ndarray, "T N"]
    output: Float[np.ndarray, "T outputs"]
    dt: float


@dataclass(frozen=True)
class Run:
    """A run folder; `summary` and `evaluation` are None while the run is unfinished."""

    folder: Path
    setup: Setup
    epochs: tuple[Epoch, ...]
    summary: Summary | None
    evaluation: Evaluation | None


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Args:
        folder: the run folder.

    Returns:
        The run; without summary and evaluation when it is unfinished.

    Raises:
        RunError: if a file is missing or damaged; the message names the file and what was expected.
    """
    if not (folder / "config.json").is_file():
        raise RunError(f"{folder}: not a run folder (it has no config.json); give one made by `rheobase train`")
    finished = (folder / "summary.json").is_file()
    return Run(
        folder=folder,
        setup=_read_setup(folder / "config.json"),
        epochs=_read_epochs(folder / "metrics.jsonl", finished),
        summary=_read_summary(folder / "summary.json") if finished else None,
        evaluation=_read_evaluation(folder / "evaluation.npz") if finished else None,
    )


def _read_setup(path: Path) -> Setup:
    fields = parse(str(path), read_text(path))
    return Setup(
        recipe=fields.optional_text("recipe"),
        description=fields.optional_text("description") or "",
        command=fields.text("command"),
        seed=fields.whole("seed"),
        commit=fields.optional_text("commit"),
        parameters=fields.whole("parameters"),
        layers=fields.texts("layers"),
        config=fields.table("config"),
        versions=fields.table("versions"),
        machine=fields.table("machine"),
    )


def _read_epochs(path: Path, finished: bool) -> tuple[Epoch, ...]:
    if not finished and not path.exists():  # it appears with the first epoch
        return ()
    lines = read_text(path).split("\n")
    # A complete file ends with a line break. In an unfinished run, text after the last one is a line still being written.
    if lines[-1] and finished:
        raise RunError(f"{path}: the last line is cut off, although the run is finished")
    epochs: dict[int, Epoch] = {}
    for number, line in enumerate(lines[:-1], start=1):
        epoch = _epoch(parse(f"{path}, line {number}", line))
        epochs[epoch.epoch] = epoch  # For an epoch repeated after a resume, the last record counts.
    return tuple(epochs[number] for number in sorted(epochs))


def _epoch(fields: Fields) -> Epoch:
    return Epoch(
        epoch=fields.whole("epoch"),
        epochs=fields.whole("epochs"),
        loss=fields.number("loss"),
        train_accuracy=fields.fraction("train_accuracy"),
        validation_loss=fields.number("validation_loss"),
        validation_accuracy=fields.fraction("validation_accuracy"),
        learning_rate=fields.number("learning_rate"),
        seconds=fields.number("seconds"),
        layers=tuple(_health(layer) for layer in fields.each("layers")),
    )


def _health(fields: Fields) -> LayerHealth:
    rate, dead, saturated = (fields.fraction(key) for key in ("rate", "dead", "saturated"))
    silent = fields.fraction("silent") if "silent" in fields.values else math.nan
    once = None if fields.values.get("fires_once_in") is None else fields.whole("fires_once_in")
    return LayerHealth(fields.text("name"), rate, dead, silent, saturated, once)


def _work(fields: Fields) -> Work:
    analog = fields.values.get("analog") is True
    return Work(fields.number("spikes_per_sample"), fields.number("synaptic_operations_per_sample"), analog)


def _read_summary(path: Path) -> Summary:
    fields = parse(str(path), read_text(path))
    samples = fields.sub("samples")
    split = "test" if "test_accuracy" in fields.values else "validation"
    others, measures = (
        fields.sub(key) if key in fields.values else Fields("", {}) for key in ("also_tested", "measures")
    )
    return Summary(
        split=split,
        accuracy=fields.fraction(f"{split}_accuracy"),
        loss=fields.number(f"{split}_loss"),
        validation_accuracy=fields.fraction("validation_accuracy"),
        validation_loss=fields.number("validation_loss") if "validation_loss" in fields.values else math.nan,
        best_epoch=fields.whole("best_epoch"),
        epochs=fields.whole("epochs"),
        seconds=fields.number("seconds"),
        samples_per_second=fields.number("samples_per_second"),
        peak_memory_mib=fields.number("peak_memory_mib"),
        samples={split: samples.whole(split) for split in dict.fromkeys(("train", "validation", split))},
        layers=tuple(LayerSummary(_health(f), f.whole("neurons"), _work(f)) for f in fields.each("layers")),
        input=_work(fields.sub("input")),
        others=tuple(
            Other(
                name,
                other.fraction("accuracy"),
                other.number("loss") if "loss" in other.values else math.nan,
                other.whole("samples"),
            )
            for name in others.values
            for other in [others.sub(name)]
        ),
        measures={name: measures.number(name) for name in measures.values},
    )


def _read_evaluation(path: Path) -> Evaluation:
    arrays = _load_arrays(path)

    def array(key: str, kinds: str, *shape: int | None) -> Shaped[np.ndarray, "..."]:
        """The array of this name; `kinds` are NumPy's letters for what it may hold, None in `shape` is any length."""
        if key not in arrays:
            raise RunError(f"{path}: lacks the array {key!r}")
        value = arrays[key]
        fits = len(shape) == value.ndim and all(
            want in (None, got) for want, got in zip(shape, value.shape, strict=True)
        )
        if value.dtype.kind not in kinds or not fits or 0 in value.shape:
            wanted = str(tuple("any" if want is None else want for want in shape)).replace("'", "")
            raise RunError(
                f"{path}: {key!r} should have the shape {wanted} and hold {_HOLDS[kinds]}, "
                f"got the shape {value.shape} and {value.dtype}"
            )
        return value

    def index(key: str, size: int) -> int:
        value = int(array(key, "iu"))
        if not 0 <= value < size:
            raise RunError(f"{path}: {key!r} should be a class from 0 to {size - 1}, got {value}")
        return value

    def fractions(key: str, *shape: int | None) -> Float[np.ndarray, "..."]:
        values = _finite(array(key, "f", *shape))
        if (values < 0).any() or (values > 1 + 1e-6).any():
            least, most = np.nanmin(values), np.nanmax(values)
            raise RunError(f"{path}: {key!r} should hold fractions of steps, 0 to 1, got {least:g} to {most:g}")
        return values

    def raster(key: str) -> UInt8[np.ndarray, "T _"] | Float[np.ndarray, "T _"]:
        values = array(key, "buif", steps, None)
        # Any spike is stored as a one: 50 million of them stay at one byte each.
        return fractions(key, steps, None) if values.dtype.kind == "f" else (values != 0).view(np.uint8)

    def class_predictions() -> ClassPredictions:
        classes = tuple(map(str, array("classes", "U", None)))
        confusion = array("confusion", "iu", len(classes), len(classes)).astype(np.int64)
        if (confusion < 0).any() or (confusion > 2**40).any():  # Larger ones could overflow when they are added up.
            raise RunError(f"{path}: 'confusion' should hold counts, got {confusion.min()} to {confusion.max()}")
        at_steps = "predictions" in arrays and arrays["predictions"].ndim == 2
        names = ("sample_label", "sample_prediction")
        label, prediction = (None, None) if at_steps else (index(key, len(classes)) for key in names)
        return ClassPredictions(classes, confusion, label, prediction)

    def value_predictions() -> ValuePredictions:
        return ValuePredictions(
            *(_finite(array(key, "f", *[None] * max(arrays[key].ndim, 1))) for key in ("targets", "predictions"))
        )

    # A network may have no spiking layer at all; an empty list has no type of its own.
    layers = tuple(map(str, array("layers", "U", None))) if arrays.get("layers", np.ones(1)).size else ()
    output = _finite(array("output", "f", None, None))
    steps = len(output)
    rasters = tuple(raster(f"raster_{k}") for k in range(len(layers)))
    dt = float(array("dt", "f"))
    return Evaluation(
        predictions=value_predictions() if {"targets", "predictions"} <= arrays.keys() else class_predictions(),
        layers=layers,
        rates=tuple(fractions(f"rates_{k}", spikes.shape[1]) for k, spikes in enumerate(rasters)),
        rasters=rasters,
        raster_input=_finite(array("raster_input", "uif", steps, None)),
        output=output,
        dt=dt if math.isfinite(dt) and dt > 0 else math.nan,
    )


_HOLDS = {
    "U": "text",
    "f": "floating-point numbers",
    "iu": "whole numbers",
    "buif": "zeros and ones, or probabilities",
    "uif": "numbers",
}


def _load_arrays(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    damaged = (ValueError, TypeError, EOFError, KeyError, NotImplementedError, RuntimeError, MemoryError, OverflowError)
    try:
        # The file is opened here, because NumPy leaves a file open that it fails to parse.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError as error:
        raise RunError(f"{path}: missing, although summary.json says that the run is finished") from error
    except (*damaged, OSError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise RunError(f"{path}: damaged, expected an .npz archive of plain arrays ({error})") from error


def _finite(values: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The values as float32, with NaN for what is not finite."""
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    return np.where(np.isfinite(values), values, np.float32(np.nan))
