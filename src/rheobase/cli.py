"""The command line: `rheobase train | resume | evaluate | report | export | recipes | sweep | reproduce | simulate | ...`.

Every command is a function whose signature is its interface; tyro derives flags and help from the typed settings, so that a
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
  [bold]rheobase resume[/bold] RUN                continue an interrupted run
  [bold]rheobase evaluate[/bold] RUN              evaluate a run's best network
  [bold]rheobase report[/bold] RUN                write a run's report.html again
  [bold]rheobase export[/bold] RUN                export a run's best network as NIR
  [bold]rheobase recipes[/bold]                   what can be trained, and what it aims at
  [bold]rheobase sweep[/bold] RECIPE --over ...   train many settings, choose on validation
  [bold]rheobase reproduce[/bold] STUDY           test the claims of a published method
  [bold]rheobase simulate[/bold] n-mnist          simulate a stand-in for N-MNIST
  [bold]rheobase doctor[/bold] RECIPE | RUN       what is wrong with a network, and remedies
  [bold]rheobase doctor[/bold] --env              what this installation computes with
  [bold]rheobase bench[/bold] \\[WORKLOADS]         speed and memory, against other libraries

Begin with [bold]rheobase train[/bold]: it needs no data and no settings, and leaves a
report in runs/. Each command explains itself: [bold]rheobase train mnist --help[/bold].
RHEOBASE_TRACEBACK=1 shows where in the code an error came from.\
"""

WHERE = (
    "Remedies are Python: arguments go where the layers are made, regularizers to rb.fit, and calls in between, on the new "
    "network and a batch of training samples. In a recipe, calls go into its method prepare(network, splits)."
)
"""Where to put what the doctor recommends, for users of the command line."""

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
            f"{entry.what} Aim: {entry.aim}. Other networks and data: rheobase train RECIPE; rheobase recipes "
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
    """Continue an interrupted run; its result is the same as without the interruption."""
    folder = RunFolder(run)
    if folder.summary is not None:
        raise RunError(
            f"{run}: this run has ended, there is nothing to resume; `rheobase report {run}` writes its report"
        )
    _train(recipes.from_config(folder.config), run, data, output, about=folder.config, resume=True)


def evaluate(
    run: Run, split: Literal["test", "validation"] = "test", data: Data = Data(), output: Output = Output()
) -> None:
    """Evaluate a run's best network on the test set, or on the validation set that selected it.

    Args:
        run: The run.
        split: The set to evaluate on.
        data: Where data sets are.
        output: How much to say.
    """
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
    """Write a run's report.html again; also for a run that has not ended."""
    print(report.write_report(run))


def export(
    run: Run,
    to: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    dt: float | None = None,
    data: Data = Data(),
    output: Output = Output(),
) -> None:
    """Write a run's best network as a NIR graph, which other libraries and neuromorphic chips read.

    Args:
        run: The run.
        to: The file; by default network.nir in the folder of the run.
        dt: Duration of a step in seconds; by default the recipe's, if it has one.
        data: Where the data set is; the graph takes its input shape from it.
        output: How much to say.
    """
    folder = RunFolder(run)
    recipe = recipes.from_config(folder.config)
    seconds = getattr(recipe, "dt", None) if dt is None else dt
    if seconds is None:
        raise RheobaseError(
            "export: --dt is needed, the duration of a step in seconds, since this recipe has none; for 1 ms, "
            "--dt 0.001"
        )
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
        table.add_row(name, entry.what, entry.aim)
    Console().print(table)


def simulate(
    what: Annotated[Literal["n-mnist"], tyro.conf.Positional],
    seed: int = 0,
    samples: int | None = None,
    data: Data = Data(),
    quiet: bool = False,
) -> None:
    """Simulate a data set into the data folder; the same command continues an interrupted simulation.

    Args:
        what: n-mnist: what an event camera would send when shown MNIST's digits. These are not the recordings of N-MNIST.
        seed: Seed of the camera's pixels and noise.
        samples: Simulate only this many pictures of the training set and of the test set; by default all.
        data: Where the data folder is; it holds MNIST.
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
    """Diagnose a network, before or after training, or this installation.

    Examines one batch of the training set, forwards and backwards: firing rates, dead and saturated neurons, membrane
    potentials against thresholds, the reach of surrogates, gradients through depth and time. Names what is wrong, and a remedy.

    Args:
        target: A recipe, to examine its new network; or the folder of a run, to examine its best one.
        env: Describe this installation: versions, the machine, and whether neurons are computed by fast kernels; if not, why.
        as_json: Output for programs: one JSON object.
        data: Where data sets are.
    """
    console = Console(highlight=False)
    if env and target is not None:
        raise RheobaseError(f"doctor: --env describes this installation, not {target}; give one of the two")
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
            "doctor: say what to examine: `rheobase doctor spoken-digits` examines a recipe, `rheobase doctor runs/NAME` a "
            "run, `rheobase doctor --env` this installation"
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
    """Measure training steps against those of the other libraries installed.

    Args:
        workloads: W1 to W6; T100, T1000, T10000, T100000: the cost by the number of steps. By default all.
        only: The libraries to compare with: snntorch, spikingjelly, norse, sinabs, spyx; with no name, none. By default all.
        rounds: Samples taken of each row.
        quick: Measure only processor time on one thread.
        compiled: Include variants that take half a minute to compile.
        toy: Use toy sizes, which only show that everything runs.
        file: Write all results to this file, updated after every workload.
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
    """Test the claims of a published method, on real data and with controls, and write the results.

    The same command continues an interrupted study; a second process with the same command shares the work.

    Args:
        study: The study to run. Without it, list all studies and how many of their trainings are done.
        quick: A version of a few minutes, which shows the direction of each claim.
        only: Run only these experiments.
        runs: Folder of the runs.
        results: Folder for the page, the rows behind it (JSON; trainings already in it are not repeated) and the plots.
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
    """Train a recipe with many settings and choose the best on the validation set.

    Every trial is a run of its own, in a folder beside FILE. The same command continues an interrupted sweep, even in the
    middle of a trial; started in two terminals, the two processes share the work.

    rheobase sweep spoken-digits --over learning_rate=1e-4..1e-2,log dropout=0..0.4 --trials 30

    rheobase sweep spoken-digits --over hidden=[128],[256,256] schedule=cosine,constant --fixed epochs=10

    Args:
        recipe: What to train.
        over: What to vary: LOW..HIGH is a range, LOW..HIGH,log one on a log scale; A,B,C are choices, lists in JSON. Training
            settings may be named in full, training.learning_rate, or not.
        fixed: Other settings, the same for all trials.
        trials: Number of trials, over all processes; by default a grid tries every combination.
        storage: The journal of the sweep; by default runs/sweep-RECIPE.journal.
        sampler: grid tries all combinations of choices, tpe learns from earlier trials, random does not; auto is grid for
            choices alone, and tpe for ranges.
        seed: Seed of the sampler; the networks' seed is a setting like any other.
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
    """Run one command; the exit status is 0, 2 after a user error, 130 after an interrupt."""
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
    except SystemExit as ended:  # how tyro exits after a help text or a wrong flag
        return ended.code if isinstance(ended.code, int) else 0
    except BrokenPipeError:  # the reader of our output has closed it, as `head` does
        # Flushing the rest at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (RheobaseError, ValueError, OSError) as error:
        if os.environ.get("RHEOBASE_TRACEBACK"):
            raise
        return _fail(str(error))
    except KeyboardInterrupt:
        hints = {
            **dict.fromkeys(("train", "resume"), "; [bold]rheobase resume[/bold] continues from the last epoch"),
            **dict.fromkeys(("simulate", "sweep"), "; the same command continues from there"),
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
    return f"there is no command {command!r}; {hint}see rheobase --help"


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
