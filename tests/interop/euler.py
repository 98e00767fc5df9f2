"""Any graph of NIR in steps, by its equations and Euler's rule, in float64: written from NIR's own descriptions of nodes."""

import nir
import numpy as np
import torch
from torch.nn import functional


def run(graph, x, dt, reset):
    """The output of `graph` for `x`, `(T, B, *features)`; `reset` is "zero" or "subtract"."""
    states = {}
    return torch.stack([step(graph, x[t].double(), states, dt, reset)["output"] for t in range(len(x))])


def step(graph, x, states, dt, reset):
    """What every node of a graph hands on at one step; `states` are kept from step to step.

    What comes back to neurons does so at the next step.
    """
    sent = {}
    names = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    sent[names[0]] = x
    pending = [name for name in graph.nodes if name not in sent]
    while pending:
        ready = [
            name for name in pending if all(a in sent or is_back(graph, a, b) for a, b in graph.edges if b == name)
        ]
        assert ready, f"no order of {pending}"
        for name in ready:
            given = [
                sent[a] if a in sent else states.get((id(graph), a), torch.zeros(()))
                for a, b in graph.edges
                if b == name
            ]
            total = sum(given[1:], given[0])
            node = graph.nodes[name]
            if isinstance(node, nir.NIRGraph):
                sent[name] = step(node, total, states, dt, reset)["output"]
            else:
                sent[name] = one(node, total, states, dt, reset)
            pending.remove(name)
    for name, value in sent.items():
        states[id(graph), name] = value
    return {"output": sent[next(name for name, node in graph.nodes.items() if isinstance(node, nir.Output))], **sent}


def is_back(graph, source, target):
    """Whether what arrives by this edge left the target itself a step ago."""
    return (target, source) in graph.edges and isinstance(graph.nodes[source], nir.Linear)


def one(node, x, states, dt, reset):
    """What a node hands on."""
    tensor = lambda value: torch.from_numpy(np.asarray(value, np.float64))  # noqa: E731
    key, kind = id(node), type(node).__name__
    if kind in ("Input", "Output"):
        return x
    if kind == "Scale":
        return x * tensor(node.scale)
    if kind == "Linear":
        return x @ tensor(node.weight).T
    if kind == "Affine":
        return x @ tensor(node.weight).T + tensor(node.bias)
    if kind in ("Conv1d", "Conv2d"):
        convolve = functional.conv1d if kind == "Conv1d" else functional.conv2d
        return convolve(
            x, tensor(node.weight), tensor(node.bias), node.stride, node.padding, node.dilation, node.groups
        )
    if kind == "AvgPool2d":
        return functional.avg_pool2d(x, *(tuple(map(int, v)) for v in (node.kernel_size, node.stride, node.padding)))
    if kind == "Flatten":
        return x.flatten(node.start_dim + 1 if node.start_dim >= 0 else node.start_dim)
    if kind == "Threshold":
        return (x >= tensor(node.threshold)).double()
    if kind == "Delay":
        (steps,) = {round(float(seconds) / dt) for seconds in np.unique(node.delay)}
        queue = states.setdefault(key, [torch.zeros_like(x)] * steps)
        queue.append(x)
        return queue.pop(0)
    current = x
    if kind in ("CubaLIF", "CubaLI"):
        i = states.get((key, "i"), torch.zeros_like(x))
        current = states[key, "i"] = i + dt / tensor(node.tau_syn) * (tensor(node.w_in) * x - i)
    v = states.get((key, "v"), torch.zeros_like(x))
    if kind in ("I", "IF"):
        v = v + dt * tensor(node.r) * current
    else:
        tau = tensor(node.tau if kind in ("LI", "LIF") else node.tau_mem)
        v = v + dt / tau * (tensor(node.v_leak) - v + tensor(node.r) * current)
    if kind in ("LI", "I", "CubaLI"):
        states[key, "v"] = v
        return v
    threshold = tensor(node.v_threshold)
    fires = (v >= threshold).double()
    states[key, "v"] = v - fires * threshold if reset == "subtract" else torch.where(fires > 0, tensor(node.v_reset), v)
    return fires
