"""The nodes of a graph in the order of the data, if they are a chain."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rheobase.errors import InteropError
from rheobase.interop.steps import Array

_DEEPEST = 20


@dataclass(frozen=True)
class Link:
    """A node of a chain, its name, and the weights through which its spikes return to it; None if they do not."""

    name: str
    node: Any
    recurrent: Array | None = None


def chain(package: Any, graph: Any, depth: int = 0) -> list[Link]:
    """The nodes between the input and the output of a graph, including those of graphs within it.

    Neurons with synapses back to themselves form one link.

    Args:
        package: `nir`.
        graph: a NIR graph.
        depth: the nesting depth of this graph.

    Raises:
        InteropError: if the graph does not have one input and one output, an edge leads nowhere, or it branches or has a cycle.
    """
    if depth > _DEEPEST:
        raise InteropError(f"from_nir: there are graphs within graphs, more than {_DEEPEST} deep")
    after, before = _neighbours(graph)
    name, end = (_only(graph, kind) for kind in (package.Input, package.Output))
    found: list[Link] = []
    passed = {name}
    while name != end:
        following = set(after[name]) - set(_back(name, after, before))
        if len(following) != 1:
            raise InteropError(
                f"from_nir: {len(following)} nodes follow on {name!r}, expected one; only chains are read"
            )
        (name,) = following
        if name in passed:
            raise InteropError(f"from_nir: the graph has a cycle, through the node {name!r}")
        back = _back(name, after, before)
        if len(before[name]) - len(back) != 1 or len(back) > 1:
            raise InteropError(
                f"from_nir: {before[name]} lead to the node {name!r}, expected one; only chains are read"
            )
        passed.add(name)
        if name != end:
            passed.update(back)
            found += _links(package, name, graph.nodes[name], [graph.nodes[other] for other in back], depth)
    if others := sorted(graph.nodes.keys() - passed):
        raise InteropError(
            f"from_nir: on the way to {end!r} there is no path through {', '.join(map(repr, others[:3]))}"
        )
    return found


def _neighbours(graph: Any) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The successors and the predecessors of each node."""
    after: dict[str, list[str]] = {name: [] for name in graph.nodes}
    before: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in dict.fromkeys((str(source), str(target)) for source, target in graph.edges):
        if not {source, target} <= graph.nodes.keys():
            raise InteropError(f"from_nir: there is an edge from {source!r} to {target!r}, but not both of these nodes")
        after[source].append(target)
        before[target].append(source)
    return after, before


def _back(name: str, after: dict[str, list[str]], before: dict[str, list[str]]) -> list[str]:
    """The nodes through which a node's output returns to it, and only to it."""
    return [other for other in after[name] if after[other] == before[other] == [name]]


def _links(package: Any, name: str, node: Any, back: list[Any], depth: int) -> list[Link]:
    if not back:
        if not isinstance(node, package.NIRGraph):
            return [Link(name, node)]
        return [Link(f"{name}.{link.name}", link.node, link.recurrent) for link in chain(package, node, depth + 1)]
    if not isinstance(back[0], package.Linear | package.Affine) or np.any(getattr(back[0], "bias", 0)):
        raise InteropError(
            f"from_nir: the output of the node {name!r} returns to it through a {type(back[0]).__name__}; only weights "
            "without a bias are read"
        )
    return [Link(name, node, np.asarray(back[0].weight))]


def _only(graph: Any, kind: type) -> str:
    found = [name for name, node in graph.nodes.items() if isinstance(node, kind)]
    if len(found) != 1:
        raise InteropError(f"from_nir: the graph has {len(found)} nodes of kind {kind.__name__}, expected one")
    return found[0]
