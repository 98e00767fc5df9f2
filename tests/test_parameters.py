import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import rheobase as rb
from rheobase import LIF, LeakyReadout, decay_from_tau, tau_from_decay

BOTH = ("decay", "threshold")


@given(st.floats(1e-3, 0.9999), st.floats(1e-3, 1e3), st.sampled_from([None, 16]))
@example(0.010620990001531598, 0.015821494332390853, 16)  # 3.4e-7 from there
def test_learned_values_start_where_asked(decay, threshold, features):
    layer = LIF(features, decay=decay, threshold=threshold, learn=BOTH)
    # The rounding of the free parameter, which is below 8 or does not matter, 2**-22, and that of the map: as it says.
    for value, asked in ((layer.decay, decay), (layer.threshold, threshold)):
        assert value.detach().flatten().double().numpy() == pytest.approx(asked, rel=5e-7)


@given(st.floats(0, 1, width=32), st.floats(2.0**-100, 2.0**100, width=32))
def test_fixed_values_are_those_asked_for(decay, threshold):
    layer = LIF(2, decay=decay, threshold=threshold)
    assert layer.decay.tolist() == [decay] * 2
    assert layer.threshold.tolist() == [threshold] * 2
    assert list(layer.parameters()) == []


def test_one_value_per_feature():
    decay, threshold = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0.5, 1.0, 30.0])
    for learn in ((), BOTH):
        layer = LIF(3, decay=decay, threshold=threshold, learn=learn)
        torch.testing.assert_close(layer.decay.detach(), decay)
        torch.testing.assert_close(layer.threshold.detach(), threshold)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1e6), st.sampled_from([torch.float32, torch.float64]))
def test_learned_values_cannot_leave_their_range(seed, size, dtype):
    layer = LIF(50, learn=BOTH).to(dtype)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += size * torch.randn(50, generator=noise)
    assert bool(((layer.decay > 0) & (layer.decay < 1)).all())
    assert bool(((layer.threshold > 0) & layer.threshold.isfinite()).all())


@given(st.floats(1e-4, 0.9999), st.floats(1e-4, 1e4))
def test_the_gradient_does_not_die(decay, threshold):
    layer = LIF(decay=decay, threshold=threshold, learn=BOTH)
    (layer.decay + layer.threshold).backward()
    for parameter in layer.parameters():
        assert parameter.grad > 0


def test_learning_moves_the_value_the_right_way():
    layer = LIF(3, learn=BOTH)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    (layer.decay - layer.threshold).sum().backward()
    optimizer.step()
    assert bool((layer.decay < 0.9).all())
    assert bool((layer.threshold > 1).all())


def test_only_what_is_learned_is_a_parameter():
    assert [name for name, _ in LIF(2).named_parameters()] == []
    assert [name for name, _ in LIF(2, learn=["threshold"]).named_parameters()] == ["raw_threshold"]
    assert set(LIF(2, learn={"decay"}).state_dict()) == {"raw_decay", "fixed_threshold"}
    assert LIF(2, learn=("threshold", "decay", "decay")).learn == BOTH


def network():
    torch.manual_seed(0)
    return rb.Sequential(
        torch.nn.Linear(4, 5),
        LIF(5, decay=torch.linspace(0.8, 0.999, 5), threshold=0.3, learn=BOTH),
        torch.nn.Linear(5, 2),
        LeakyReadout(2, decay=0.999),
    )


def test_a_copy_is_equal_and_independent():
    first = network()
    second = copy.deepcopy(first)
    x = torch.rand(9, 2, 4)
    assert torch.equal(first(x), second(x))
    with torch.no_grad():
        second[1].raw_threshold += 1
    assert torch.equal(first[1].threshold, network()[1].threshold)


def test_weights_travel_through_a_state_dict():
    first, second = network(), network()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter += 0.1
    x = torch.rand(9, 2, 4)
    assert not torch.equal(first(x), second(x))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize(("before", "after"), [((), BOTH), (BOTH, ()), (("decay",), ("threshold",))])
def test_what_was_fixed_may_learn_on_and_the_other_way_round(before, after):
    source = rb.Sequential(
        LIF(3, decay=torch.tensor([0.5, 0.7, 0.9]), threshold=torch.tensor([0.5, 1.0, 2.0]), learn=before),
        input_rate=None,
    )
    target = rb.Sequential(LIF(3, learn=after), input_rate=None)
    target.load_state_dict(source.state_dict())
    assert torch.allclose(target[0].decay, source[0].decay, rtol=1e-6)
    assert torch.allclose(target[0].threshold, source[0].threshold, rtol=1e-6)
    assert [name for name, _ in target[0].named_parameters()] == [f"raw_{name}" for name in after]


def test_a_value_at_the_end_of_its_range_does_not_learn_on():
    with pytest.raises(RuntimeError, match="raw_decay"):
        LIF(learn=("decay",)).load_state_dict(LIF(decay=1.0).state_dict())


def test_double_computes_in_float64():
    double = network().double()
    assert {value.dtype for value in double.state_dict().values()} == {torch.float64}
    output = double(torch.rand(9, 2, 4, dtype=torch.float64))
    assert output.dtype == torch.float64
    torch.testing.assert_close(double[1].decay.float(), network()[1].decay)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_spares_decays_thresholds_and_states(dtype):
    plain, half = network(), network().to(dtype)
    assert half[0].weight.dtype == dtype
    assert torch.equal(half[1].decay, plain[1].decay)
    assert torch.equal(half[1].threshold, plain[1].threshold)
    assert half[3].decay.tolist() == pytest.approx([0.999] * 2, rel=1e-7)
    output, (_, membrane, _, readout) = half.run(torch.rand(9, 2, 4).to(dtype))
    assert output.dtype == membrane.dtype == readout.dtype == torch.float32
    output.sum().backward()
    assert half[0].weight.grad.dtype == dtype
    assert half[1].raw_decay.grad.dtype == torch.float32
    assert torch.equal(half.float()[1].decay, plain[1].decay)


NEURONS = {
    "LIF": lambda: LIF(3),
    "RecurrentLIF": lambda: rb.RecurrentLIF(3, self_connections=False),
    "RecurrentAdaptiveLIF": lambda: rb.RecurrentAdaptiveLIF(3),
    "SPSN": lambda: rb.SPSN(3),
    "PSN": lambda: rb.PSN(9),
    "MaskedPSN": lambda: rb.MaskedPSN(9, order=3),
    "SlidingPSN": lambda: rb.SlidingPSN(3),
    "ParaLIF": lambda: rb.ParaLIF(3, learn=("decay",)),
    "ParaLIF, drawn": lambda: rb.ParaLIF(3, event="bernoulli", transform="relu_tanh", recurrent=True),
    "ParaLIF, recurrent": lambda: rb.ParaLIF(3, recurrent=True),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", NEURONS)
def test_spikes_have_the_type_of_the_input(kind, dtype):
    x = 4 * torch.rand(9, 2, 4)
    first, second = torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)
    whole = rb.Sequential(first, NEURONS[kind](), second, input_rate=None).to(dtype)
    spared = [name for name, value in whole.state_dict().items() if value.dtype != dtype]
    assert all(name.startswith(("1.raw_", "1.fixed_")) for name in spared)
    output = whole(x.to(dtype))
    assert output.dtype == dtype
    output.sum().backward()
    assert all(each.grad is None or each.grad.dtype == each.dtype for each in whole.parameters())
    layer = NEURONS[kind]()
    assert layer(x[..., :3].to(dtype)).dtype == dtype  # whatever its own type


def test_half_precision_may_come_by_name():
    assert LIF(2).half().decay.dtype == LIF(2).bfloat16().decay.dtype == torch.float32
    assert network().to("meta")[1].raw_decay.device.type == "meta"


def test_autocast_leaves_states_in_float32():
    with torch.autocast("cpu", torch.bfloat16):
        output, (_, membrane, _, _) = network().run(torch.rand(9, 2, 4))
    assert output.dtype == membrane.dtype == torch.float32


def test_printing_names_the_values():
    layer = LIF(5, decay=torch.linspace(0.8, 0.999, 5), threshold=0.3, learn=("decay",))
    settings = "surrogate=FastSigmoid(dampening=1, sharpness=1), reset='subtract'"
    assert repr(layer) == f"LIF(5, decay=0.8..0.999, threshold=0.3, learn=('decay',), {settings})"
    assert repr(LeakyReadout(decay=0.5)) == "LeakyReadout(decay=0.5)"


WITH_VALUES = (
    rb.LIF,
    rb.SynapticLIF,
    rb.Rouser,
    rb.RecurrentLIF,
    rb.AdaptiveLIF,
    rb.RecurrentAdaptiveLIF,
    rb.SingleSpike,
    rb.SPSN,
    rb.ParaLIF,
    rb.LeakyReadout,
    rb.SynapticReadout,
)


@pytest.mark.parametrize("kind", WITH_VALUES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("learned", [False, True])
def test_every_value_can_be_assigned(kind, learned):
    layer = kind(3, learn=kind(3).values if learned else ())
    for name in layer.values:
        setattr(layer, name, 0.75)  # for all features
        assert getattr(layer, name).tolist() == pytest.approx([0.75] * 3, rel=2.5e-7)
        value = torch.tensor([0.25, 0.5, 0.6], dtype=torch.float64, requires_grad=True)
        setattr(layer, name, value)
        torch.testing.assert_close(getattr(layer, name).detach(), value.detach().float())
        assert getattr(layer, name).requires_grad == learned
        assert "in-place" in getattr(kind, name).__doc__
    fresh = kind(3, learn=layer.learn)
    assert {name: (t.shape, t.dtype) for name, t in layer.state_dict().items()} == {
        name: (t.shape, t.dtype) for name, t in fresh.state_dict().items()
    }


@pytest.mark.parametrize("learn", [(), BOTH])
def test_an_assigned_value_is_what_a_layer_made_with_it_has(learn):
    x, start = torch.rand(9, 2, 3), torch.tensor([0.2, 0.5, 2.0])
    layer = LIF(3, learn=learn)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1) if learn else None
    layer.threshold, layer.decay = start, 0.7
    assert torch.equal(layer(x), LIF(3, threshold=start, decay=0.7, learn=learn)(x))
    if optimizer:  # the parameter is the one that the optimizer knows
        layer.threshold.sum().backward()
        optimizer.step()
        assert bool((layer.threshold < start).all())


def test_an_assigned_value_keeps_the_type_of_the_layer():
    layer = LIF(learn=("threshold",)).double()
    layer.threshold = 2.0
    assert layer.threshold.dtype == torch.float64
    assert layer.threshold.item() == pytest.approx(2.0, rel=1e-15)
    assert layer.threshold.shape == ()


@pytest.mark.usefixtures("as_a_user")
class TestAssigningWrongly:
    @pytest.mark.parametrize(
        ("learn", "name", "value", "message"),
        [
            ((), "decay", 1.5, r"LIF: a fixed decay must be in \[0, 1\], got 1.5"),
            (BOTH, "decay", 1.0, r"LIF: a learned decay must be in \(0, 1\), got 1"),
            (BOTH, "threshold", math.nan, "LIF: a learned threshold must be above 0 and finite, got nan"),
            ((), "threshold", torch.ones(2), r"threshold must be a number or have shape \(3,\).*got \(2,\)"),
        ],
    )
    def test_out_of_range(self, learn, name, value, message):
        layer = LIF(3, learn=learn)
        with pytest.raises(ValueError, match=message):
            setattr(layer, name, value)
        assert torch.equal(getattr(layer, name), getattr(LIF(3, learn=learn), name))

    @pytest.mark.parametrize("value", ["a", None, [1.0, "a", 2.0]])
    def test_no_number(self, value):
        with pytest.raises(TypeError, match=r"LIF: decay must be a number or a tensor, got"):
            LIF(3, decay=value)
        with pytest.raises(TypeError, match=r"LIF: threshold must be a number or a tensor, got"):
            LIF(3).threshold = value

    def test_a_parameter(self):
        with pytest.raises(TypeError, match=r"threshold must be .*, got an nn.Parameter; .* LIF\(..., learn=\('thr"):
            LIF(3).threshold = torch.nn.Parameter(torch.ones(3))

    def test_no_such_value(self):
        layer = rb.ParaLIF(event="bernoulli", transform="sigmoid")
        assert not hasattr(layer, "threshold")
        with pytest.raises(AttributeError, match=r"no value threshold .* values are: synapse_decay, decay"):
            layer.threshold = 1.0


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    @pytest.mark.parametrize("value", [torch.nn.Parameter(torch.tensor(0.9)), LIF(learn=BOTH).decay])
    def test_a_value_that_is_learned_already(self, value):
        with pytest.raises(
            TypeError, match=r"LIF: decay must be .* requires no gradient.*learn=\('decay',\).*decay.detach"
        ):
            LIF(5, decay=value)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"decay": 1.1}, r"LIF: a fixed decay must be in \[0, 1\], got 1.1"),
            ({"decay": -0.1}, r"LIF: a fixed decay must be in \[0, 1\], got -0.1"),
            ({"decay": math.nan}, r"fixed decay must be in \[0, 1\], got nan"),
            ({"decay": 1.0, "learn": ("decay",)}, r"LIF: a learned decay must be in \(0, 1\), got 1"),
            ({"decay": 0.0, "learn": ("decay",)}, r"LIF: a learned decay must be in \(0, 1\), got 0"),
            ({"threshold": 0.0}, "LIF: a fixed threshold must be above 0 and finite, got 0"),
            ({"threshold": -1.0, "learn": BOTH}, "LIF: a learned threshold must be above 0 and finite, got -1"),
            ({"threshold": math.inf}, "threshold must be above 0 and finite, got inf"),
            ({"features": 3, "decay": torch.tensor([0.5, 1.5, 0.5])}, r"decay must be in \[0, 1\], got 0.5..1.5"),
            ({"features": 3, "decay": torch.zeros(2)}, r"decay must be a number or have shape \(3,\).*got \(2,\)"),
            ({"features": 3, "threshold": torch.ones(3, 1)}, r"threshold must be a number .*got \(3, 1\)"),
            ({"threshold": torch.ones(3)}, r"threshold must be a number .*got \(3,\)"),
            ({"features": 0}, "LIF: features must be a whole number, at least 1, got 0"),
            ({"features": -3}, "LIF: features must be a whole number, at least 1, got -3"),
            ({"features": 0.9}, "LIF: features must be a whole number, at least 1, got 0.9"),
            ({"learn": ("decay", "tau")}, "LIF: learn may name 'decay', 'threshold', got 'tau'"),
        ],
    )
    def test_values(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            LIF(**arguments)

    @pytest.mark.parametrize("kind", [LIF, LeakyReadout, rb.SPSN])
    def test_names_of_elsewhere(self, kind):
        with pytest.raises(TypeError, match=f"{kind.__name__}: there is no setting beta; use decay, "):
            kind(3, beta=0.9)
        with pytest.raises(TypeError, match=r"there is no setting tau; write decay=rb.decay_from_tau\(tau, dt\);"):
            kind(tau=2)

    def test_names_of_elsewhere_where_they_mean_something_or_nothing(self):
        class Own(LIF):
            def __init__(self, *, decay=0.5, beta=0.5):
                super().__init__(decay=decay * beta)

        assert Own(beta=0.1).decay.item() == pytest.approx(0.05)
        with pytest.raises(TypeError, match="unexpected keyword argument 'tau'"):
            rb.PSN(3, tau=2)
        with pytest.raises(TypeError, match="unexpected keyword argument 'bet'"):
            LIF(bet=0.9)

    def test_whole_numbers_of_any_type(self):
        assert type(LIF(np.int64(3)).features) is int
        assert LIF(np.int64(3)).decay.shape == (3,)
        assert rb.SlidingPSN(np.uint8(2)).weight.shape == (2,)
        rb.RecurrentLIF(torch.tensor(3))

    @pytest.mark.parametrize(
        ("layer", "state", "message"),
        [
            (LIF(3), (torch.zeros(2, 3),), "LIF: state must be a tensor, as run returns it, got a tuple of 1"),
            (LeakyReadout(3), "rest", "LeakyReadout: state must be a tensor, .* got a str; None starts from rest"),
            (rb.RecurrentLIF(3), torch.zeros(2, 3), "must be a tuple of 2 tensors, as run returns it, got a Tensor;"),
            (rb.SynapticReadout(3), [torch.zeros(2, 3)], "must be a tuple of 2 tensors, .* got a list of 1;"),
            (rb.SingleSpike(3), (torch.zeros(2, 3), None, None), "a tuple of 3 tensors, .* got a tuple of 3;"),
            (rb.SPSN(3), (torch.zeros(2, 3), torch.zeros(2, 3)), "a tuple of 3 tensors, .* got a tuple of 2;"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_states_of_another_kind(self, layer, state, message):
        with pytest.raises(TypeError, match=message):
            layer.run(torch.zeros(4, 2, 3), state)

    def test_own_neurons_need_no_arguments(self):
        class Own(rb.Neuron):
            def __init__(self, **settings):
                super().__init__(**settings)

        assert (Own().features, Own().learn, Own().values) == (None, (), ())
        with pytest.raises(ValueError, match="Own: learn may name nothing, got 'threshold'"):
            Own(learn=("threshold",))
        with pytest.raises(TypeError, match="Own: learn must be a collection of names, got True"):
            Own(learn=True)

    def test_learn_as_a_string(self):
        with pytest.raises(TypeError, match=r"LIF: learn must be a collection .* got 'decay'; write \('decay',\)"):
            LIF(learn="decay")

    def test_learn_as_a_yes(self):
        with pytest.raises(TypeError, match=r"LIF: learn must be a collection .* got True; write \('decay',\)"):
            LIF(learn=True)

    def test_the_layer_is_named(self):
        with pytest.raises(ValueError, match="LeakyReadout: learn may name 'decay', got 'threshold'"):
            LeakyReadout(learn=("threshold",))

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            ((5, 2), r"LIF\(3\): x must be \(T, B, 3, ...\), got shape \(5, 2\); there is no features axis"),
            ((5, 2, 4), r"got shape \(5, 2, 4\); axis 2 has size 4$"),
            ((5, 2, 4, 3), "axis 2 has size 4, axis 3 has size 3: move it with x.movedim"),
            ((5, 3, 4), "axis 2 has size 4, axis 1 has size 3: move it with x.movedim"),
        ],
    )
    def test_features(self, shape, message):
        with pytest.raises(ValueError, match=message):
            LIF(3)(torch.ones(shape))
        with pytest.raises(ValueError, match=message.replace("LIF", "LeakyReadout")):
            LeakyReadout(3)(torch.ones(shape))


@given(st.floats(1e-3, 1e6), st.floats(1e-3, 1e3))
def test_decay_and_time_constant_are_inverse(tau, dt):
    decay = decay_from_tau(tau, dt)
    if 0.001 < decay < 0.999999:
        assert tau_from_decay(decay, dt) == pytest.approx(tau, rel=1e-6)


def test_time_constants_one_per_feature():
    tau = torch.tensor([2.0, 20.0])
    decay = decay_from_tau(tau, 1.0)
    assert decay.tolist() == pytest.approx([decay_from_tau(2.0, 1.0), decay_from_tau(20.0, 1.0)])
    torch.testing.assert_close(tau_from_decay(decay, 1.0), tau)
    with pytest.raises(ValueError, match=r"decay_from_tau: tau must be above 0, got -1\.\.2"):
        decay_from_tau(torch.tensor([-1.0, 2.0]), 1.0)
    with pytest.raises(ValueError, match=r"tau_from_decay: decay must be in \(0, 1\), got 0.5\.\.1"):
        tau_from_decay(torch.tensor([0.5, 1.0]), 1.0)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_time_constants_out_of_range(value):
    with pytest.raises(ValueError, match="decay_from_tau: tau must be above 0"):
        decay_from_tau(value, 1.0)
    with pytest.raises(ValueError, match="decay_from_tau: dt must be above 0"):
        decay_from_tau(1.0, value)
    with pytest.raises(ValueError, match="tau_from_decay: dt must be above 0"):
        tau_from_decay(0.5, value)
    with pytest.raises(ValueError, match=r"tau_from_decay: decay must be in \(0, 1\)"):
        tau_from_decay(value, 1.0)
    with pytest.raises(ValueError, match=r"tau_from_decay: decay must be in \(0, 1\), got 1"):
        tau_from_decay(1.0, 1.0)
