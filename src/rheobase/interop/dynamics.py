"""Neurons and readouts as nodes of NIR."""

from typing import Any

import numpy as np
from torch import Tensor

from rheobase.errors import InteropError
from rheobase.interop.steps import Array, as_array, time_constant
from rheobase.layers import LeakyReadout, SynapticReadout
from rheobase.neurons import LIF, RecurrentLIF, SynapticLIF
from rheobase.parameters import FeatureParameters


def nodes_of(package: Any, layer: FeatureParameters, x: Tensor, dt: float) -> list[Any]:
    """The nodes of a layer, in sequence: mostly one; neurons without a reset are an integrator and a threshold.

    Args:
        package: `nir`.
        layer: a `LIF`, `SynapticLIF`, `RecurrentLIF` or one of the readouts.
        x: its input, for the shape.
        dt: the duration of a step.

    Raises:
        InteropError: if there is no reset where NIR has one, or decays are 1 where NIR has time constants.
    """
    integrator, neurons, membrane = _membrane(package, layer, x, dt)
    if isinstance(layer, LeakyReadout | SynapticReadout):
        return [integrator(**membrane)]
    assert isinstance(layer, LIF | SynapticLIF | RecurrentLIF)
    threshold = as_array(_per_neuron(layer, "threshold", x))
    recurrent = isinstance(layer, RecurrentLIF)
    if layer.reset == "none" and not recurrent:
        return [integrator(**membrane), package.Threshold(threshold)]
    if layer.reset == "none":
        raise InteropError("it has no reset, and its feedback would have to pass an integrator of its own")
    settings = {"v_threshold": threshold, "v_reset": np.zeros_like(threshold), "metadata": {"reset": layer.reset}}
    node = neurons(**membrane, **settings)
    return [_recurrent(package, layer, node) if recurrent else node]


def _membrane(package: Any, layer: FeatureParameters, x: Tensor, dt: float) -> tuple[type, type, dict[str, Array]]:
    """The node types without and with a threshold, and the arguments of both."""
    decay = _per_neuron(layer, "decay", x)
    at_rest = as_array(np.zeros_like(decay))
    if isinstance(layer, SynapticLIF | SynapticReadout):
        synapse = _per_neuron(layer, "synapse_decay", x)
        if max(decay.max(), synapse.max()) == 1:
            raise InteropError("it has decays of 1, and NIR's current-based neurons have time constants")
        # A readout outputs `(1 - decay) v`.
        r = np.ones_like(decay) if isinstance(layer, SynapticReadout) else 1 / (1 - decay)
        times = {"tau_mem": time_constant(decay, dt), "tau_syn": time_constant(synapse, dt)}
        found = {"r": r, "w_in": 1 / (1 - synapse), **times}
        return package.CubaLI, package.CubaLIF, {"v_leak": at_rest} | {k: as_array(v) for k, v in found.items()}
    if (decay == 1).all():
        return package.I, package.IF, {"r": as_array(decay / dt)}
    if (decay == 1).any():
        raise InteropError("it has decays of 1 as well as smaller ones, and a NIR node has neurons of one kind")
    return (
        package.LI,
        package.LIF,
        {"v_leak": at_rest, "r": as_array(1 / (1 - decay)), "tau": as_array(time_constant(decay, dt))},
    )


def _recurrent(package: Any, layer: RecurrentLIF, neurons: Any) -> Any:
    """A graph within the graph: neurons, and the synapses through which their spikes return."""
    shape = np.array([layer.features])
    nodes = {
        "input": package.Input(input_type={"input": shape}),
        "lif": neurons,
        "w_rec": package.Linear(as_array(layer.synapses())),
        "output": package.Output(output_type={"output": shape}),
    }
    return package.NIRGraph(nodes, [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")])


def _per_neuron(layer: FeatureParameters, name: str, x: Tensor) -> Array:
    return layer.per_feature(name, x).double().expand(x.shape[2:]).numpy()
