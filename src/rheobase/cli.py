"""The command line: `rheobase train | resume | evaluate | report | export | recipes | sweep | reproduce | simulate | ...`.

Every command is a function whose signature is its interface; tyro makes flags and help of the typed settings, so that a
recipe's fields, the configuration file and `--help` cannot disagree.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from rheobase import environment, interop, recipes, report, training
from rheobase.data import simulate_n_mnist
from rheobase.errors import RheobaseError, RunError
from rheobase.options import Data, Output, Run
from rheobase.recipes import RECIPES, Recipe
from rheobase.recipes.trained import load
from rheobase.training import Engine, Evaluation, RunFolder, checkpoint

DEFAULT_RECIPE = "spoken-digits"

HELP = """\
[bold]rheobase[/bold]: train spiking neural networks that are alive from the first step.

  [bold]rheobase train[/bold] \\[RECIPE] \\[OPTIONS]  train a network (default: {default})
  [bold]rheobase resume[/bold] RUN                go on with a run that was interrupted
  [bold]rheobase evaluate[/bold] RUN              test a run's best network
  [bold]rheobase report[/bold] RUN                write the run's report.html anew
  [bold]rheobase export[/bold] RUN                write a run's best network for other programs and chips (NIR)
  [bold]rheobase recipes[/bold]                   what can be trained, and what it aims at
  [bold]rheobase sweep[/bold] RECIPE --over ...   train many settings, and choose on the validation set
  [bold]rheobase reproduce[/bold] STUDY           put the claims of a published method to the test
  [bold]rheobase simulate[/bold] n-mnist          make a data set that stands in for N-MNIST
  [bold]rheobase doctor[/bold] RECIPE | RUN       what is wrong with a network, and what to do about it
  [bold]rheobase doctor[/bold] --env              what this installation computes with, and why
  [bold]rheobase bench[/bold] \\[WORKLOADS]         measure speed and memory, beside other libraries

Begin with [bold]rheobase train[/bold]: it needs no data and no settings, and leaves a
report in runs/. Each command explains itself: [bold]rheobase train mnist --help[/bold].
RHEOBASE_TRACEBACK=1 shows where in the code an error came from.\
"""

WHERE = (
    "Remedies are Python: arguments go where the layers are made, regularizers to rb.fit, and calls in between, on the new "
    "network and a batch of training samples. In a recipe the place for calls is its method prepare(network, splits)."
)
"""Where to put what the doctor recommends, for those who only see the command line."""

R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class Train(Generic[R]):
    """What `rheobase train RECIPE` takes: the recipe's settings, and where data and results are."""

    recipe: R
    data: Data = Data()
    output: Output = Output()
    name: str | None = None
    """Name of the run; by default recipe and time."""
    runs: Path = Path("runs")
    """Folder of all runs."""


def train(arguments: list[str]) -> None:
    """Train a recipe's network."""
    named = arguments[:1] and not arguments[0].startswith("-")
    name, rest = (arguments[0], arguments[1:]) if named else (DEFAULT_RECIPE, arguments)
    entry = recipes.find(name)
    options = tyro.cli(
        tyro.conf.OmitArgPrefixes[Train[type(entry.recipe)]],  # pyright: ignore[reportInvalidTypeArguments]
        args=rest,
        prog=f"rheobase train {name}",
        description=(
            f"{type(entry.recipe).__doc__} Aim: {entry.aim}. Other networks and data: rheobase train RECIPE; rheobase recipes "
            "lists them."
        ),
        default=Train(entry.recipe),
    )
    if options.name is not None and (Path(options.name).is_absolute() or ".." in Path(options.name).parts):
        raise RunError(f"name: got {options.name!r}, expected a name within --runs, the folder of all runs")
    engine = Engine.start(options.recipe.training)
    run = options.runs / engine.agree(options.name or f"{name}-{datetime.now():%Y%m%d-%H%M%S}")
    about = {"recipe": name, "description": type(entry.recipe).__doc__}
    _train(options.recipe, run, options.data, options.output, about=about)


def resume(run: Run, data: Data = Data(), output: Output = Output()) -> None:
    """Go on with a run that was interrupted; it ends as if it had never stopped."""
    folder = RunFolder(run)
    if folder.summary is not None:
        raise RunError(
            f"{run}: this run has ended, there is nothing to resume; `rheobase report {run}` writes its report"
        )
    _train(recipes.from_config(folder.config), run, data, output, about=folder.config, resume=True)


def evaluate(
    run: Run, split: Literal["test", "validation"] = "test", data: Data = Data(), output: Output = Output()
) -> None:
    """Read a run's best network on its test set, or on the validation set that it was chosen by."""
    folder = RunFolder(run)
    recipe = recipes.from_config(folder.config)
    splits = data.splits(recipe, output)
    network = recipe.seeded_network()
    position = checkpoint.load(folder.best, network)
    dataset = splits.test if split == "test" else splits.validation
    engine = Engine.start(recipe.training)
    settings = recipe.training
    with engine.threads(settings.threads):
        seen = training.evaluate(
            network.to(engine.device).eval(),
            dataset,
            batch_size=settings.evaluation_batch_size,
            loss=recipe.loss,
            decode=recipe.decode,
            engine=engine,
            seed=settings.seed,
        )
        with engine.precision():
            measures = dict(recipe.measure(network, dataset))
    if not engine.is_main:
        return
    if output.json:
        found = {f"{split}_accuracy": seen.accuracy, f"{split}_loss": seen.loss}
        layers = [layer.as_dict() for layer in seen.layers]
        print(json.dumps({**found, "layers": layers, "measures": measures}))
    elif not output.quiet:
        _show(f"{run}, weights of epoch {position.best_epoch}, {len(dataset):,} {split} samples", seen, measures)


def write_report(run: Run) -> None:
    """Write a run's report.html anew; it also works for a run that has not ended."""
    print(report.write_report(run))


def export(
    run: Run,
    to: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    dt: float | None = None,
    data: Data = Data(),
    output: Output = Output(),
) -> None:
    """Write a run's best network as a graph of NIR, which other libraries and neuromorphic chips read.

    Args:
        run: The run.
        to: The file; by default network.nir in the folder of the run.
        dt: The seconds of a step; by default those of the recipe, if it tells.
        data: Where the data is, whose shape the graph has.
        output: How much to say.
    """
    folder = RunFolder(run)
    recipe = recipes.from_config(folder.config)
    seconds = getattr(recipe, "dt", None) if dt is None else dt
    if seconds is None:
        raise RheobaseError("export: say how long a step is, in seconds, as the recipe does not tell: --dt 0.001")
    network = load(run)
    graph = interop.to_nir(network, data.splits(recipe, output).test.features, dt=seconds)
    path = to or run / "network.nir"
    interop.write_nir(graph, path)
    if output.json:
        print(json.dumps({"file": str(path), "dt": seconds, "nodes": list(graph.nodes)}))
    elif not output.quiet:
        Console(highlight=False, soft_wrap=True).print(
            f"{path}: {len(graph.nodes)} nodes, steps of {seconds:g} s", markup=False
        )


def list_recipes() -> None:
    """What can be trained, and what it aims at."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("recipe", "what", "aim"):
        table.add_column(title)
    for name, entry in RECIPES.items():
        table.add_row(name, type(entry.recipe).__doc__, entry.aim)
    Console().print(table)


def simulate(
    what: Annotated[Literal["n-mnist"], tyro.conf.Positional],
    seed: int = 0,
    samples: int | None = None,
    data: Data = Data(),
    quiet: bool = False,
) -> None:
    """Make a simulated data set, in the data folder; a simulation that was interrupted goes on.

    Args:
        what: n-mnist: what an event camera would send in front of MNIST's digits. These are not the recordings of N-MNIST.
        seed: The camera's pixels and its noise are drawn from it.
        samples: Only so many of the first pictures of the training and of the test set.
        data: Where the data folder is; MNIST lies in it.
        quiet: Say nothing but errors.
    """
    console = Console(quiet=quiet, highlight=False, soft_wrap=True)
    with Bars("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console) as bars:
        tasks = {part: bars.add_task(f"simulating {what}, {part}", total=None) for part in ("Train", "Test")}
        folder = simulate_n_mnist(
            data.data_dir,
            seed=seed,
            samples=samples,
            download=data.download,
            progress=lambda part, done, total: bars.update(tasks[part], completed=done, total=total),
        )
    console.print(f"simulated, not recorded: {folder}", markup=False)


def doctor(
    target: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE|RUN")] = None,
    env: bool = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
    data: Data = Data(),
) -> None:
    """Say what is wrong: with a network, before it is trained or after, or with this installation.

    Looks at one batch of the training set, forwards and backwards: firing rates, dead and saturated neurons, membrane
    potentials against thresholds, the reach of surrogates, gradients through depth and time. Names what is wrong, and a
    remedy.

    Args:
        target: A recipe, to look at its new network; or the folder of a run, to look at its best one.
        env: Look at this installation: versions, the machine, and whether neurons are computed by fast kernels; if not, why.
        as_json: One JSON object, for programs.
        data: Where data sets are.
    """
    console = Console(highlight=False)
    if env and target is not None:
        raise RheobaseError(f"doctor: --env looks at this installation, not at {target}; give one of the two")
    if env:
        about = environment.describe()
        if as_json:
            print(json.dumps(about))
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, what in about.items():
            table.add_row(f"[bold]{name}[/bold]", what)
        console.print(table)
    elif target is None:
        raise RheobaseError(
            "doctor: say what to look at; `rheobase doctor spoken-digits` looks at a recipe, `rheobase doctor runs/NAME` at "
            "a run, `rheobase doctor --env` looks at this installation"
        )
    else:
        from rheobase.checkup import checkup

        diagnosis = checkup(target, lambda recipe: data.splits(recipe, Output(json=as_json)))
        if as_json:
            print(json.dumps(diagnosis.as_dict()))
        else:
            console.print(diagnosis)
            if diagnosis.findings:
                console.print(f"\n{WHERE}", style="dim", markup=False)


def bench(
    workloads: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="WORKLOAD ...")] = (),
    only: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="LIBRARY ...")] = None,
    rounds: int = 7,
    quick: bool = False,
    compiled: bool = False,
    toy: bool = False,
    file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> None:
    """Measure training steps, beside those of the other libraries that are installed.

    Args:
        workloads: W1 to W6; T100, T1000, T10000, T100000: the cost against the number of steps. By default all.
        only: The libraries beside this one: snntorch, spikingjelly, norse, sinabs, spyx; without a name after it, this one
            alone. By default all.
        rounds: How often each row has its turn.
        quick: Only processor time on one thread.
        compiled: Also what takes half a minute to compile.
        toy: Toy sizes, which show that everything runs, and nothing else.
        file: Keep everything in this file, anew after every workload.
    """
    from rheobase.bench import command

    command.bench(workloads, only, rounds=rounds, quick=quick, compiled=compiled, toy=toy, file=file)


def reproduce(
    study: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")] = None,
    quick: bool = False,
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="EXPERIMENT ...")] = (),
    runs: Path = Path("runs/reproduce"),
    results: Path = Path("benchmarks/results"),
    data: Data = Data(),
) -> None:
    """Put the claims of a published method to the test, on real data and with controls, and write what was found.

    An interrupted study goes on where it stopped, when the same command is given again; a second process with the same
    command takes part of the work.

    Args:
        study: What to reproduce. Without it, what there is and how far it is.
        quick: A version of a few minutes, which shows the direction of each claim.
        only: Run these experiments only.
        runs: Folder of the runs.
        results: Folder for the page, the rows behind it (JSON; trainings that are in it are not repeated) and the plots.
    """
    from rheobase.reproduce import command

    if study is None:
        command.overview(results)
        return
    load = lambda recipe: data.splits(recipe, Output())  # noqa: E731
    command.reproduce(study, quick=quick, only=only, runs=runs, results=results, load=load)


def sweep(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")],
    over: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUES ...")],
    fixed: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE ...")] = (),
    trials: int | None = None,
    storage: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    sampler: Literal["auto", "grid", "tpe", "random"] = "auto",
    seed: int = 0,
    data: Data = Data(),
    output: Output = Output(),
) -> None:
    """Train a recipe with many settings, and choose the best on the validation set.

    Every trial is a run of its own, in a folder beside FILE. The same command goes on where an interrupted sweep stopped, in
    the middle of a trial, too; given twice, in two terminals, it is done by two processes that share the work.

    rheobase sweep spoken-digits --over learning_rate=1e-4..1e-2,log dropout=0..0.4 --trials 30

    rheobase sweep spoken-digits --over hidden=[128],[256,256] schedule=cosine,constant --fixed epochs=10

    Args:
        recipe: What to train.
        over: What to vary: LOW..HIGH is a range, LOW..HIGH,log one on a log scale; A,B,C are choices, lists in JSON. Settings
            of training may be named in full, training.learning_rate, or not.
        fixed: Other settings that all trials have.
        trials: How many there shall be, of all processes together; a grid has as many as combinations.
        storage: The journal of the sweep; by default runs/sweep-RECIPE.journal.
        sampler: grid tries all combinations of choices, tpe learns from the trials before, random does not; auto is grid for
            choices alone, and tpe for ranges.
        seed: What the samplers draw from; the seed of the networks is a setting like any other.
        data: Where data sets are.
        output: How much to say.
    """
    from rheobase.sweep import command

    load = lambda recipe: data.splits(recipe, output)  # noqa: E731
    said = {"quiet": output.quiet, "as_json": output.json}
    command.run(recipe, over, fixed, trials=trials, storage=storage, sampler=sampler, seed=seed, load=load, **said)


COMMANDS: dict[str, Callable[..., None]] = {
    "resume": resume,
    "evaluate": evaluate,
    "report": write_report,
    "export": export,
    "recipes": list_recipes,
    "simulate": simulate,
    "doctor": doctor,
    "bench": bench,
    "reproduce": reproduce,
    "sweep": sweep,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 2 after an error of the user's, 130 after an interrupt."""
    command, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    try:
        if command == "train":
            train(rest)
        elif command in COMMANDS:
            tyro.cli(COMMANDS[command], args=rest, prog=f"rheobase {command}", config=(tyro.conf.OmitArgPrefixes,))
        elif command in ("--help", "-h"):
            Console(highlight=False).print(HELP.format(default=DEFAULT_RECIPE))
        elif command == "--version":
            print(f"rheobase {version('rheobase')}")
        else:
            return _fail(_unknown_command(command))
        sys.stdout.flush()
    except SystemExit as ended:  # tyro's own way out, after a help text or a wrong flag
        return ended.code if isinstance(ended.code, int) else 0
    except BrokenPipeError:  # whoever read our output has seen enough, as `head`
        # What is left to be written at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (RheobaseError, ValueError, OSError) as error:
        if os.environ.get("RHEOBASE_TRACEBACK"):
            raise
        return _fail(str(error))
    except KeyboardInterrupt:
        hints = {
            **dict.fromkeys(("train", "resume"), "; [bold]rheobase resume[/bold] goes on from the last epoch"),
            **dict.fromkeys(("simulate", "sweep"), "; the same command goes on from there"),
        }
        Console(stderr=True).print(f"interrupted{hints.get(command, '')}")
        return 130
    return 0


def _fail(message: str) -> int:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("[bold red]error:[/bold red]", end=" ")
    console.print(message, markup=False)
    return 2


def _unknown_command(command: str) -> str:
    close = get_close_matches(command, ["train", *COMMANDS], n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"there is no command {command!r}; {hint}See rheobase --help"


def _train(
    recipe: Recipe, run: Path, data: Data, output: Output, *, about: Mapping[str, Any], resume: bool = False
) -> None:
    splits = data.splits(recipe, output)
    display = output.display()
    recipe.train(splits, run=run, resume=resume, about=about, display=display)
    if Engine.start(recipe.training).is_main:
        page = report.write_report(run)
        if not (output.quiet or output.json):
            Console(highlight=False, soft_wrap=True).print(f"report: {page}", markup=False)


def _show(title: str, seen: Evaluation, measures: Mapping[str, float]) -> None:
    console = Console(highlight=False)
    console.print(f"[bold]accuracy {seen.accuracy:.2%}[/bold], loss {seen.loss:.4f}:", end=" ")
    console.print(title, markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("layer", "firing rate", "dead", "saturated", "spikes / sample", "synaptic operations / sample"):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    for layer in seen.layers:
        table.add_row(
            layer.name,
            f"{layer.rate:.1%}",
            f"{layer.dead:.0%}",
            f"{layer.saturated:.0%}",
            f"{layer.spikes_per_sample:,.0f}",
            f"{layer.synaptic_operations_per_sample:,.0f}",
        )
    console.print(table)
    if measures:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("also measured")
        table.add_column("value", justify="right")
        for name, value in measures.items():
            table.add_row(name, f"{value:,.4g}")
        console.print("", table)
