"""Testing single-spike training: is it as accurate as a loop over time, with fewer spikes, and from silence?

The paper's table is of one setting per data set, which is repeated here at its network and T, in fewer epochs. The controls:
the same neurons with the gradient that a loop over time computes, and neurons that fire any number of times, both by kernels of
the same cost, so that the methods are compared and not the programs. The time compared with real loops is measured by
`benchmarks/single_spike.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar, get_args

from rheobase.recipes.single_spike import Kind, SingleSpikeConvolutions, SingleSpikes
from rheobase.recipes.tasks import TASKS
from rheobase.reproduce.statistics import Estimate, paired
from rheobase.reproduce.study import Claim, Experiment, Study, Table, Verdict
from rheobase.reproduce.verdicts import Finding, above, not_comparable, outcomes, overall, reaches

BLOCK, PRODUCT, LOOP, MULTI = get_args(Kind)
FIXED = "single spike, fixed decays"
ARMS = (BLOCK, PRODUCT, LOOP, MULTI, FIXED)

PUBLISHED = {
    "yin-yang": 98.02,
    "mnist": 97.91,
    "fashion-mnist": 89.05,
    "mnist-conv": 99.22,
    "fashion-mnist-conv": 90.59,
}
"""Test accuracies of the block model with learned decays and the sum as readout, in %."""


PUBLISHED_SAVED = {"yin-yang": 44, "mnist": 50, "fashion-mnist": 53}
"""By how many % spikes are fewer than those of neurons with many."""


def experiments(quick: bool) -> Sequence[Experiment]:
    """All experiments, or those of the quick version."""
    # Rows are known by their settings, so what None stands for is written out.
    yin_yang = SingleSpikes(input_gain=4.0)
    plain = SingleSpikes(input_gain=1.0)
    plain = replace(plain, training=replace(plain.training, batch_size=32))  # in few epochs, it is steps that lack
    digits = replace(plain, task="spoken-digits", hidden=(300,))
    if quick:
        few = _epochs(yin_yang, 20)
        return [
            _experiment("yin-yang", few, arms=ARMS[:-1]),
            _experiment("spoken-digits", _epochs(replace(digits, hidden=(100,)), 15)),
            _from_silence("yin-yang", few),
        ]
    # Chosen on MNIST's validation set: 97.4 % after 20 epochs, and 97.0 at the authors' rate of 0.001; 0.00025 and 0.004 were
    # behind after 7 epochs and stopped.
    slow = replace(plain, training=replace(plain.training, learning_rate=5e-4))
    images = {
        "mnist": replace(slow, task="mnist", hidden=(800,)),
        "fashion-mnist": replace(slow, task="fashion-mnist", hidden=(1000,)),
    }
    n_mnist = replace(plain, task="n-mnist-simulated", hidden=(300,), samples=10_000)
    return [
        _experiment("yin-yang", _epochs(yin_yang, 200)),
        _experiment("spoken-digits", _epochs(digits, 50)),
        _from_silence("yin-yang", _epochs(yin_yang, 50)),
        _from_silence("spoken-digits", _epochs(digits, 50), 0.01),  # whose inputs are counts: a tenth is not silent
        _from_silence("mnist", _epochs(replace(plain, task="mnist", hidden=(800,), samples=10_000), 10)),
        _experiment("n-mnist-simulated", _epochs(n_mnist, 15), arms=(BLOCK, LOOP, MULTI)),
        *(_experiment(name, _epochs(recipe, 30), arms=(BLOCK, LOOP, MULTI, FIXED)) for name, recipe in images.items()),
        *(  # the published accuracy alone: a training takes an hour or two
            _experiment(f"{name}-conv", _epochs(SingleSpikeConvolutions(task=name), 10), arms=(BLOCK,))
            for name in ("mnist", "fashion-mnist")
        ),
    ]


SEEDS = (0, 1, 2)
MARGIN = 0.01
"""By how much less accurate still is not less accurate: a point."""


R = TypeVar("R", SingleSpikes, SingleSpikeConvolutions)


def _epochs(recipe: R, epochs: int) -> R:
    return replace(recipe, training=replace(recipe.training, epochs=epochs))


def _experiment(name: str, recipe: SingleSpikes | SingleSpikeConvolutions, *, arms: Sequence[str] = ARMS) -> Experiment:
    kinds = {kind: replace(recipe, neurons=kind) for kind in (BLOCK, PRODUCT, LOOP, MULTI)}
    if isinstance(recipe, SingleSpikes):
        training = replace(recipe.training, decay_learning_rate=None)
        kinds[FIXED] = replace(recipe, learn_decay=False, training=training)
    chosen = {arm: kinds[arm] for arm in arms}
    return Experiment(name, _title(recipe), chosen, SEEDS, chance=1 / TASKS[recipe.task].classes)


def _from_silence(name: str, recipe: SingleSpikes, gain: float = 0.1) -> Experiment:
    """Where no neuron fires at first: the first layer's weights are `gain` times the usual ones, a tenth in the paper."""
    quiet = replace(recipe, input_gain=gain * recipe.first_gain)
    arms = {kind: replace(quiet, neurons=kind) for kind in (BLOCK, PRODUCT, LOOP, MULTI)}
    title = f"From silence, first layer times {gain:g}: {_title(recipe)}"
    return Experiment(f"silence-{name}", title, arms, SEEDS, chance=1 / TASKS[recipe.task].classes)


def _title(recipe: SingleSpikes | SingleSpikeConvolutions) -> str:
    task = TASKS[recipe.task]
    if isinstance(recipe, SingleSpikeConvolutions):
        first, second = recipe.channels
        return f"{task.title}, convolutions {first} and {second}, {recipe.hidden}-10, T = {recipe.steps}"
    sizes = "-".join(str(size) for size in (task.channels, *recipe.hidden, task.classes))
    return f"{task.title}, {sizes}, T = {task.steps}"


def _compared(table: Table, judge: Callable[[str], Finding | None]) -> Verdict:
    """The verdict of `judge`, over all experiments that start with activity; it is None of one that has not both arms."""
    findings: dict[str, Finding] = {}
    for name in table.experiments:
        finding = None if name.startswith("silence-") else judge(name)
        if finding is not None:
            findings[name] = finding
    return overall(findings)


def _as_accurate_as_published(table: Table) -> Verdict:
    findings: dict[str, Finding] = {}
    for name, published in PUBLISHED.items():
        accuracies = outcomes(table, name, BLOCK)
        if accuracies:
            found = Estimate.of(list(accuracies.values()))
            findings[name] = reaches(found, published / 100), f"{found.percent()} % (published {published})"
    return overall(findings)


def _as_accurate_as(other: str) -> Callable[[Table], Verdict]:
    def judge(table: Table, name: str) -> Finding | None:
        difference = paired(*(outcomes(table, name, arm) for arm in (BLOCK, other)))
        return difference and (above(difference, -MARGIN), f"{difference.percent()} points")

    return lambda table: _compared(table, lambda name: judge(table, name))


def _saved(table: Table, name: str) -> Estimate | None:
    """The share of spikes that single-spike neurons save, seed by seed."""
    rows, others = table.of(name, BLOCK), table.of(name, MULTI)
    shared = rows.keys() & others
    ratios = [rows[seed].spikes_per_sample / max(others[seed].spikes_per_sample, 1e-9) for seed in shared]
    return Estimate.of([1 - ratio for ratio in ratios]) if ratios else None


def _fewer_spikes(table: Table) -> Verdict:
    def judge(name: str) -> Finding | None:
        saved = _saved(table, name)
        return saved and (above(saved), f"{saved.percent(0)} % fewer")

    return _compared(table, judge)


def _as_many_fewer_as_published(table: Table) -> Verdict:
    def judge(name: str) -> Finding | None:
        saved, published = _saved(table, name), PUBLISHED_SAVED.get(name)
        if saved is None or published is None:
            return None
        return reaches(saved, published / 100), f"{saved.percent(0)} % (published {published})"

    return _compared(table, judge)


def _learned_decays(table: Table) -> Verdict:
    def judge(name: str) -> Finding | None:
        learned, fixed = outcomes(table, name, BLOCK), outcomes(table, name, FIXED)
        difference = paired(learned, fixed)
        if difference is None:
            return None
        found = [Estimate.of(list(one.values())).percent() for one in (fixed, learned)]
        return above(difference), f"{found[0]} to {found[1]} %"

    return _compared(table, judge)


def _from_no_activity(table: Table) -> Verdict:
    findings: dict[str, Finding] = {}
    for name, experiment in table.experiments.items():
        arms = {arm: accuracies for arm in experiment.arms if (accuracies := outcomes(table, name, arm))}
        if not name.startswith("silence-") or BLOCK not in arms:
            continue
        chance = 1 / TASKS[experiment.arms[BLOCK].task].classes  # pyright: ignore[reportAttributeAccessIssue]
        found = {arm: Estimate.of(list(accuracies.values())) for arm, accuracies in arms.items()}
        learns = min(arms[BLOCK].values()) > min(2 * chance, (1 + chance) / 2)
        figures = ", ".join(f"{arm} {estimate.percent(1)} %" for arm, estimate in found.items())
        findings[name.removeprefix("silence-")] = learns, figures
    return overall(findings)


STUDY = Study(
    name="single-spike",
    title="Single-spike training",
    source=(
        'Taylor, King and Harper, "Robust and accelerated single-spike spiking neural network training with applicability to '
        'challenging temporal tasks", arXiv 2205.15286; figures from its published notebooks'
    ),
    remarks=(
        "Networks, T, codes, augmentation, initialization, surrogate and readout are the authors'. Different are: a "
        "neuron fires at `v >= threshold`; decays are learned through a sigmoid instead of a clamp, in convolutions one "
        "for each map and from 0.99; the learning rate is 0.001 throughout, 0.012 for what a sigmoid makes decays of, which "
        "moves the hidden layer's by 0.001 and the readout's by 0.0006 where they start; rates have a warm-up and fall along "
        "a cosine, where the authors divide them by ten at milestones and reload the best weights (and take 0.0002 for "
        "N-MNIST and SHD); epochs are theirs on Yin-Yang, where that does "
        "not start from silence, and a fourteenth to a quarter of theirs elsewhere, in batches of 32 instead of their 128 (64 "
        "for convolutions), four times as many steps each; and a tenth of the training set is "
        "kept for validation, on which the network is chosen. Spoken digits are not the Spiking Heidelberg Digits, and "
        "N-MNIST is simulated from MNIST and trained on 10,000 samples. Convolutions are trained with single spikes "
        "alone. *Detached* is nearest to the gradient of the "
        "published standard single-spike loop, whose mask is part of the gradient in some versions of its program; *product* "
        "is that of a loop whose mask is differentiated; *multi-spike* has a soft reset in the gradient, as published. Not "
        "less accurate means by less than a point; as accurate as published, that the mean is not below; less accurate than "
        "published, that the whole interval is. Seconds per epoch are those of kernels in all arms, on one thread, by "
        "the clock on the wall of a machine with other work beside: speed is compared in single-spike-speed.md."
    ),
    experiments=experiments,
    claims=(
        Claim("As accurate as published", "98.02, 97.91, 89.05, 99.22, 90.59 %", _as_accurate_as_published),
        Claim(
            "Not less accurate than the same neurons trained as a loop",
            "+5.2 (Yin-Yang), 0.0, -0.9, -1.1, +1.4 (SHD) points",
            _as_accurate_as(LOOP),
        ),
        Claim(
            "Not less accurate than neurons with many spikes",
            "+3.6 (Yin-Yang), -0.3, -1.8, -1.7, -0.5 (SHD) points",
            _as_accurate_as(MULTI),
        ),
        Claim("Fewer spikes than neurons with many", "44, 50, 53, 81 (N-MNIST), 72 (SHD) %", _fewer_spikes),
        Claim(
            "As many fewer as published: Yin-Yang, MNIST, Fashion-MNIST", "44, 50, 53 %", _as_many_fewer_as_published
        ),
        Claim(
            "Learned decays make the difference",
            "MNIST 90.51 to 97.91, Fashion-MNIST 85.34 to 89.05, SHD 44.51 to 70.32 %",
            _learned_decays,
        ),
        Claim("It trains from a start without any spike", "Yin-Yang, MNIST and SHD train", _from_no_activity),
        Claim(
            "Accuracy on N-MNIST, SHD and CIFAR-10",
            "96.34 %, 70.32 %, 82.1 %",
            lambda _: not_comparable(
                "N-MNIST is simulated here, SHD could not be had, and CIFAR-10 was one run of a rebuttal"
            ),
        ),
        Claim(
            "Training is up to 13.98 times faster than a loop (Yin-Yang, on a GPU)",
            "13.98",
            lambda _: not_comparable("measured on CPUs by `benchmarks/single_spike.py`: see single-spike-speed.md"),
        ),
    ),
)
