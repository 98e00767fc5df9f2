"""Where the equations of other libraries coincide with ours, so do the spikes, to the bit, and the gradients.

The others compute the same sums in another order in places (`v + (0 - v) / tau` for `decay * v`), so inputs, decays and
thresholds are binary fractions with few digits: all of it is exact, and a spike that differs is a difference of models.
"""

import warnings

import pytest
import torch
from torch import Tensor
from torch.nn import Linear

from rheobase import LIF, Sequential
from rheobase.interop import from_nir, to_nir
from rheobase.ops.lif import lif
from rheobase.surrogate import Arctan, FastSigmoid


def load(name):
    # What a package warns about while it is imported is its own affair.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


@pytest.fixture(scope="module")
def snntorch():
    load("snntorch.surrogate")
    return load("snntorch")


@pytest.fixture(scope="module")
def spikingjelly():
    load("spikingjelly.activation_based.neuron")
    return load("spikingjelly.activation_based")


def walk(model, x):
    """What a module of snnTorch's hands on, step for step."""
    return torch.stack([(found if isinstance(found := model(step), Tensor) else found[0]) for step in x])


def test_snntorch_reads_our_graphs(snntorch):
    load("nirtorch")
    from snntorch.import_nir import import_from_nir

    network = Sequential(
        Linear(8, 16), LIF(16, decay=0.75, reset="zero"), Linear(16, 4), LIF(4, decay=0.5, reset="zero")
    )
    theirs = import_from_nir(to_nir(network, (8,), dt=1e-4))  # the step that it takes
    spikes = network(x := torch.ones(20, 5, 8).bernoulli_(0.4, generator=torch.Generator().manual_seed(0)))
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(walk(theirs, x), spikes)


def test_we_read_the_graphs_of_snntorch(snntorch):
    load("nirtorch")
    from snntorch.export_nir import export_to_nir

    def neurons(count, decay, **settings):
        values = {"beta": decay * torch.ones(count), "threshold": torch.ones(count)}
        return snntorch.Leaky(**values, **settings, init_hidden=True, reset_mechanism="zero", reset_delay=False)

    theirs = torch.nn.Sequential(Linear(8, 16), neurons(16, 0.9), Linear(16, 4), neurons(4, 0.75, output=True))
    torch.nn.init.uniform_(theirs[2].weight, -1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = export_to_nir(theirs, torch.zeros(1, 8), ignore_dims=[0])
    network = from_nir(graph, dt=1e-4)
    x = torch.ones(20, 5, 8).bernoulli_(0.4, generator=torch.Generator().manual_seed(0))
    load("snntorch.utils").reset(theirs)
    spikes = walk(theirs, x)
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(network(x), spikes)


def currents(decay, seed=0):
    """Multiples of 1/8, the larger the more leaks away, and a weight for every spike."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-3, 13 - int(6 * decay), (12, 4, 5), generator=generator) / 8
    return x, torch.randn(12, 4, 5, generator=generator)


def compare(ours, theirs):
    for seed in range(5):
        x, weights = currents(ours.decay.item(), seed)
        results = []
        for model in (ours, theirs):
            leaf = x.clone().requires_grad_()
            spikes = model(leaf)
            (spikes * weights).sum().backward()
            results.append((spikes.detach(), leaf.grad))
        (spikes, gradient), (their_spikes, their_gradient) = results
        assert 0.05 < spikes.mean() < 0.95
        assert torch.equal(spikes, their_spikes)
        torch.testing.assert_close(gradient, their_gradient)


def run_spikingjelly(layer):
    def run(x):
        layer.reset()
        return layer(x)

    return run


@pytest.mark.parametrize("detached", [True, False])
@pytest.mark.parametrize(("reset", "v_reset"), [("subtract", None), ("zero", 0.0)])
@pytest.mark.parametrize("decay", [1.0, 0.5, 0.75])
def test_spikingjelly(spikingjelly, decay, reset, v_reset, detached):
    options = {
        "v_reset": v_reset,
        "detach_reset": detached,
        "surrogate_function": spikingjelly.surrogate.ATan(alpha=2.0),
        "step_mode": "m",
    }
    if decay == 1:
        theirs = spikingjelly.neuron.IFNode(**options)
    else:
        theirs = spikingjelly.neuron.LIFNode(tau=1 / (1 - decay), decay_input=False, **options)
    ours = LIF(decay=decay, reset=reset, reset_gradient="detached" if detached else "attached", surrogate=Arctan())
    compare(ours, run_spikingjelly(theirs))


def test_spikingjelly_sharpness(spikingjelly):
    theirs = spikingjelly.neuron.IFNode(
        v_reset=None, surrogate_function=spikingjelly.surrogate.ATan(alpha=5.0), step_mode="m"
    )
    # Their slope alpha is peak and sharpness alpha / 2; their reset is in the gradient by default.
    compare(LIF(decay=1.0, surrogate=Arctan(2.5, 2.5), reset_gradient="attached"), run_spikingjelly(theirs))


def run_snntorch(layer):
    def run(x):
        membrane, spikes = torch.zeros_like(x[0]), []
        for current in x.unbind(0):
            spike, membrane = layer(current, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


# snnTorch fires strictly above its threshold. This one no potential can meet, so it does not matter here.
THRESHOLD = 1 + 2.0**-20


@pytest.mark.parametrize("reset", ["none", "zero"])
@pytest.mark.parametrize("decay", [1.0, 0.5])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Arctan(), lambda surrogate: surrogate.atan(alpha=2.0)),
        (FastSigmoid(sharpness=12.5), lambda surrogate: surrogate.fast_sigmoid(slope=25)),
    ],
    ids=["arctan", "fast sigmoid"],
)
def test_snntorch_without_reset_and_to_zero(snntorch, decay, reset, ours, theirs):
    layer = snntorch.Leaky(decay, threshold=THRESHOLD, spike_grad=theirs(snntorch.surrogate), reset_mechanism=reset)
    compare(LIF(decay=decay, threshold=THRESHOLD, reset=reset, surrogate=ours), run_snntorch(layer))


def test_snntorch_subtracts_one_step_later(snntorch):
    # v[t] = decay * v[t-1] + x[t] - threshold * s[t-1]: what is taken away has not decayed, as ours has. Without a leak
    # it is the same.
    layer = snntorch.Leaky(1.0, threshold=THRESHOLD, spike_grad=snntorch.surrogate.atan(alpha=2.0))
    compare(LIF(decay=1.0, threshold=THRESHOLD, surrogate=Arctan()), run_snntorch(layer))


def test_snntorch_subtracts_one_step_later_with_a_leak(snntorch):
    # With one, ours becomes theirs when the input after a spike takes away what ours leaves: (1 - decay) * threshold.
    x, _ = currents(0.5)
    x = x.double()
    theirs = run_snntorch(snntorch.Leaky(0.5, threshold=THRESHOLD).double())(x)
    extra = torch.cat((torch.zeros_like(theirs[:1]), theirs[:-1])) * 0.5 * THRESHOLD
    assert theirs.sum() > 20
    assert torch.equal(lif(x - extra, 0.5, THRESHOLD)[0], theirs)
    assert not torch.equal(lif(x, 0.5, THRESHOLD)[0], theirs)


def test_snntorch_with_its_reset_at_once(snntorch):
    # The same model as ours as long as no potential exceeds two thresholds.
    x, _ = currents(0.5)
    x = x.double().clamp(max=0.875)
    spikes, _ = lif(x, 0.5, THRESHOLD)
    theirs = snntorch.Leaky(0.5, threshold=THRESHOLD, reset_delay=False).double()
    assert spikes.sum() > 20
    assert torch.equal(spikes, run_snntorch(theirs)(x))
