"""Make a network alive and its gradients even, by measuring on one batch: `rheobase.stabilize`.

Theory says how to start a network if inputs are random, membrane potentials normal and steps independent. A batch says how it
is. Both directions are solved one layer at a time, in a single pass each:

- Forwards (`rheobase.stability.rates`), a layer's weights are made orthogonal to their mean input, see
  `rheobase.stability.centring`, and its biases equal for all neurons, so that none is silent or saturated by the draw of its
  weights. The weights are then scaled until the neurons fire at the wanted rate, before the next layer receives their spikes.
  Where no scale achieves that, as behind a bias far below 0, or with neurons that fire at rest, the bias is moved, or the mean
  of recurrent weights. The recurrent weights of `RecurrentLIF` are first centred, and made as strong as its input: condition II
  of `rheobase.stability.conditions`, measured.
- Backwards (`rheobase.stability.gradients`), a random cotangent that is constant in time, as that of a loss which averages over
  it, starts at the outputs. The dampening of each layer's surrogate is set so that the gradient of its weights has the norm
  that the last weights' gradient has, before it goes on to the layer below. In a deep layer all samples look alike, above all
  behind convolutions, and the gradient has one or two directions of the output left. One random cotangent then says little
  about the next: with 16 samples and 20 outputs, norms that were even for one were apart by a factor of 1.5 to 2 for others. So
  the cotangents of samples are at right angles, and the norm is the mean over signs of samples that makes them independent, see
  `rheobase.stability.walk`.

So one factor is found for each layer, by bisection of a quantity that rises with it. Gradients then neither vanish nor explode
through depth. In a recurrent layer they go back through time as well, and either can be asked for:

- "balanced": recurrence adds half to what the gradient is without it, see `rheobase.stability.recurrence`.
- "even": the norm is that of all other layers. Where a layer receives little, or the output depends on what is common to all
  steps, that takes a gradient which nearly explodes through time, and of which most is noise: networks of one and of two
  recurrent layers learned less so. Of many such layers it is what keeps the first alive, since small differences multiply.
"""

import math
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rheobase.compiled import as_written, original
from rheobase.health import neuron_layers
from rheobase.ops.arguments import check_batch
from rheobase.padding import refuse_mask
from rheobase.stability.centring import centring
from rheobase.stability.changes import Calibration, LayerChange
from rheobase.stability.gradients import Gradients, Recurrent, dampening_of
from rheobase.stability.rates import Rates
from rheobase.stability.walk import as_in_training, cotangent, measure, walking


@as_written()
def stabilize(
    network: nn.Module,
    batch: Float[Tensor, "T B *features"],
    *,
    rate: float = 0.1,
    recurrent: Recurrent = "balanced",
    seed: int = 0,
) -> Calibration:
    """Scale the weights and the surrogates of a new network, so that it fires and its gradients are even; by one batch.

    Weights, biases and surrogates are changed in place; nothing else is. Meanwhile dropout is off, batch normalization takes
    the statistics of the batch, as in training, and delays are as wide as at the start of training. The same network and batch
    give the same result. 16 samples are enough: gradients of 20 layers that were even for one batch are up to a factor of 2
    apart for another (with 8 samples, 4). Memory is that of one training step, and time that of about ten.

    Weights are made orthogonal to their mean input, so that a current, averaged over the batch, is the layer's bias; biases in
    front of neurons become their mean, or 0 if they were drawn at random around it. The weights behind the last neurons are
    centred, too, and their biases kept. Layers with fewer than 16 weights for each unit keep their means. Weights that
    `rheobase.standardize` computes are scaled by their deviation; frozen weights and the bias beside them are left alone. A
    dampening is raised to 10 at most, and to 4 over the threshold if the gradient goes through the reset: where a layer needs
    more, as one that receives little may, the gradient of its weights stays smaller than the others, and the table says so.

    A surrogate is not a weight, and no `state_dict` holds it: a network that is built again computes the same with these
    weights, but trains differently. Checkpoints of `rheobase.fit` hold the dampenings, too, and
    `rheobase.training.checkpoint.load` sets them; elsewhere, set `surrogate` of each layer.

    Args:
        network: any module made of this library's neurons and PyTorch's linear, convolutional and normalization layers, each of
            which is used once. What is not such a weighted layer is left as it is.
        batch: an input that is like those of training, `(T, B, *features)`. Padding counts as steps: of samples of different
            lengths, take some that are about as long, cut to the shortest.
        rate: the wanted spikes per neuron and step, in (0, 1). Neurons that fire once are to do so in half of all cases,
            neurons with a refractory period at most half as often as they could.
        recurrent: how the dampening of recurrent layers is chosen. "balanced": recurrence adds half to the energy of a gradient
            that goes back through the layer; "even": the gradient of the weights in front has the norm of the others, which is
            to be preferred where there are more than about four such layers.
        seed: of the cotangent with which gradients are measured.

    Returns:
        What was changed, layer by layer, with firing rates and gradient norms before and after.

    Raises:
        TypeError: if `batch` is not a floating-point tensor.
        ValueError: if an argument is out of its range, `batch` is empty or not finite, or the network is within
            `rheobase.masked`. Or a layer cannot be stabilized; the message names it, and why: no current reaches it, its
            weights are shared or computed by another parametrization, its spikes carry no gradient, or it does not run in a
            call of the network. What was changed up to there stays so.

    Example:
        >>> import rheobase as rb
        >>> _ = torch.manual_seed(0)
        >>> network = rb.Sequential(nn.Linear(50, 64), rb.LIF(64), nn.Linear(64, 64), rb.LIF(64), nn.Linear(64, 3))
        >>> done = stabilize(network, (torch.rand(100, 8, 50) < 0.02).float(), rate=0.2)
        >>> [round(layer.rate[1], 1) for layer in done.layers]
        [0.2, 0.2]
    """
    check_batch(batch, "stabilize")
    network = original(network)
    refuse_mask(network, "stabilize")
    if not 0 < rate < 1:
        raise ValueError(f"stabilize: rate must be in (0, 1), got {rate}")
    if recurrent not in get_args(Recurrent):
        raise ValueError(f"stabilize: recurrent must be 'balanced' or 'even', got {recurrent!r}")
    devices = [batch.device] if batch.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad(), as_in_training(network):
        return _stabilized(network, batch, rate, recurrent, seed)


def _stabilized(network: nn.Module, batch: Tensor, rate: float, recurrent: Recurrent, seed: int) -> Calibration:
    changes = {layer: LayerChange(name) for name, layer in neuron_layers(network)}
    if not changes:
        raise ValueError("stabilize: network has no layer of neurons")
    dampenings = {layer: dampening_of(layer) for layer in changes}
    before = measure(network, batch, seed)
    if unseen := [change.name for layer, change in changes.items() if layer not in before.rates]:
        raise ValueError(
            f"stabilize: {', '.join(unseen)} did not run in a call of the network, or not as a module: what streams by "
            "`run` is not seen; stabilize the network before it is wrapped"
        )
    rates = Rates(changes, rate, seed)
    centred = centring(before.last_before_neurons, before.behind[-1:], rates.scaled)
    with torch.no_grad(), walking(network, rates.set), centred:
        network(batch)
    alive = measure(network, batch, seed)
    if not 0 < alive.last < math.inf:
        raise ValueError(
            "stabilize: the gradient of the output with respect to the last weights must be above 0 and finite, got norm "
            f"{alive.last}"
        )
    gradients = Gradients(changes, alive.last, recurrent, seed)
    with walking(network, gradients.hear, gradients.listen):
        output = network(batch)
        loss = (output * cotangent(output, alive.axes, seed)).sum()
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        torch.autograd.grad(loss, parameters, allow_unused=True)  # for what it does on its way
    for layer, change in changes.items():
        change.rate = before.rates[layer], alive.rates[layer]
        change.gradient = before.gradients[layer], gradients.norms.get(layer, 0.0)
        first, last = dampenings[layer], dampening_of(layer)
        change.dampening = None if first is None or last is None else (first, last)
    return Calibration(tuple(changes[layer] for layer in before.rates))
