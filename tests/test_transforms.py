"""Networks under `torch.func`: gradients by sample, and many networks at once, equal to one after the other."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

import rheobase as rb

HIDDEN: dict[str, Callable[[], nn.Module]] = {
    "LIF": lambda: rb.LIF(8, learn=("decay", "threshold")),
    "attached": lambda: rb.LIF(8, reset="zero", reset_gradient="attached"),
    "ignored": lambda: rb.LIF(8, reset_gradient="ignored"),
    "SynapticLIF": lambda: rb.SynapticLIF(8),
    "RecurrentLIF": lambda: rb.RecurrentLIF(8),
    "AdaptiveLIF": lambda: rb.AdaptiveLIF(8, refractory=2, learn=("threshold", "adaptation")),
    "blocks": lambda: rb.AdaptiveLIF(8, refractory=3, credit="blocks"),
    "RecurrentAdaptiveLIF": lambda: rb.RecurrentAdaptiveLIF(8),
    "SingleSpike": lambda: rb.SingleSpike(8, learn=("decay",)),
    "ramp": lambda: rb.SingleSpike(8, credit="ramp"),
    "Rouser": lambda: rb.Rouser(8, threshold=0.1),
    "PSN": lambda: rb.PSN(10),
    "MaskedPSN": lambda: rb.MaskedPSN(10, order=3),
    "SlidingPSN": lambda: rb.SlidingPSN(3),
    "ParaLIF": lambda: rb.ParaLIF(8),
    "Delay": lambda: rb.Sequential(rb.Delay(2), rb.LIF(8)),
    "Residual": lambda: rb.Residual(rb.Sequential(nn.Linear(8, 8), rb.LIF(8))),
}


def network(name: str, seed: int = 0) -> rb.Sequential:
    torch.manual_seed(seed)
    return rb.Sequential(nn.Linear(6, 8), HIDDEN[name](), nn.Linear(8, 3), rb.LeakyReadout(3)).double()


def loss(net: nn.Module, parameters: dict[str, Tensor], x: Tensor, label: Tensor) -> Tensor:
    output = functional_call(net, parameters, (x.unsqueeze(1),))
    return functional.cross_entropy(output.mean(0), label.unsqueeze(0))


@pytest.mark.parametrize("name", HIDDEN)
def test_gradients_by_sample_are_those_of_one_sample_after_the_other(name: str) -> None:
    net = network(name)
    parameters = dict(net.named_parameters())
    x, labels = 3 * torch.rand(10, 5, 6).double(), torch.randint(3, (5,))
    together = vmap(grad(lambda *given: loss(net, *given)), in_dims=(None, 1, 0))(parameters, x, labels)
    for sample in range(5):
        net.zero_grad()
        functional.cross_entropy(net(x[:, sample : sample + 1]).mean(0), labels[sample : sample + 1]).backward()
        for key, parameter in parameters.items():
            alone = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert torch.allclose(together[key][sample], alone, rtol=1e-9, atol=1e-12), key
    assert any(bool(each.any()) for each in together.values())


@pytest.mark.parametrize("name", ["LIF", "RecurrentLIF", "SingleSpike"])
def test_many_networks_at_once(name: str) -> None:
    nets = [network(name, seed) for seed in range(3)]
    x = 3 * torch.rand(10, 5, 6).double()
    parameters, buffers = stack_module_state(nets)  # pyright: ignore[reportArgumentType]
    together = vmap(lambda p, b: functional_call(nets[0], (p, b), (x,)))(parameters, buffers)
    for net, output in zip(nets, together, strict=True):
        assert torch.allclose(output, net(x), rtol=1e-9, atol=1e-12)


def test_convolutions_and_pooling() -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), rb.LIF(4), nn.AvgPool2d(2), nn.Conv2d(4, 5, 2), rb.SingleSpike(5), nn.Flatten()
    net = rb.Sequential(*layers, nn.Linear(5, 3), rb.LeakyReadout(3)).double()
    x = 3 * torch.rand(6, 4, 1, 6, 6).double()
    together = vmap(lambda sample: net(sample.unsqueeze(1)).squeeze(1), in_dims=1, out_dims=1)(x)
    assert torch.allclose(together, net(x), rtol=1e-9, atol=1e-12)
