"""The order of nodes: chains are read as such, everything else is refused by name."""

import nir
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheobase.errors import InteropError
from rheobase.interop.chain import chain

ONE = np.ones((1, 1), np.float32)


def graph(*edges: str, **others: object) -> nir.NIRGraph:
    """A graph of linear nodes, from edges such as `"in a"`."""
    ends = {"in": nir.Input(np.array([1])), "out": nir.Output(np.array([1]))}
    names = {name for edge in edges for name in edge.split()} - ends.keys()
    nodes = {**{name: nir.Linear(ONE) for name in names}, **ends, **others}
    return nir.NIRGraph(nodes, [tuple(edge.split()) for edge in edges], type_check=False)  # pyright: ignore[reportArgumentType]


@given(st.permutations(["in a", "a b", "b c", "c out"]))
def test_a_chain_whatever_the_order_of_edges(edges: list[str]) -> None:
    assert [link.name for link in chain(nir, graph(*edges))] == ["a", "b", "c"]


def test_graphs_within() -> None:
    inner = graph("in x", "x y", "y out")
    found = chain(nir, graph("in a", "a inner", "inner out", inner=inner))
    assert [link.name for link in found] == ["a", "inner.x", "inner.y"]


def test_what_comes_back_belongs_to_its_node() -> None:
    first, second = chain(nir, graph("in a", "a b", "b w", "w b", "b out", w=nir.Linear(2 * ONE)))
    assert (first.recurrent, second.name) == (None, "b")
    assert second.recurrent is not None
    assert second.recurrent.tolist() == [[2.0]]


REFUSED = {
    "on the way to 'out' there is no path through 'b', 'c'": ["in a", "a out", "b c"],
    "there is no path through 'l'": ["in l", "l in", "in a", "a out"],
    "there is no path through 'x'": ["in a", "a out", "out x", "x out"],
    "2 nodes follow on 'a'": ["in a", "a b", "a c", "b out", "c out"],
    "0 nodes follow on 'b'": ["in a", "a b", "c out"],
    "lead to the node 'b'": ["in a", "a b", "c b", "b out"],
    r"\['in', 'c'\] lead to the node 'a'": ["in a", "a b", "b c", "c a", "d out"],
    "has a cycle, through the node 'in'": ["in a", "a b", "b in", "c out"],
    "returns to it through a Affine": ["in a", "a biased", "biased a", "a out"],
}


@pytest.mark.parametrize("reason", REFUSED)
def test_other_graphs_are_refused(reason: str) -> None:
    biased = {"biased": nir.Affine(ONE, np.ones(1, np.float32))} if "biased" in " ".join(REFUSED[reason]) else {}
    with pytest.raises(InteropError, match=reason):
        chain(nir, graph(*REFUSED[reason], **biased))


def test_edges_must_lead_somewhere() -> None:
    broken = graph("in a", "a out")
    broken.edges.append(("a", "nowhere"))
    with pytest.raises(InteropError, match="an edge from 'a' to 'nowhere'"):
        chain(nir, broken)


def test_graphs_within_graphs_have_an_end() -> None:
    inner = graph("in a", "a out")
    for _ in range(30):
        inner = graph("in a", "a out", a=inner)
    with pytest.raises(InteropError, match="more than 20 deep"):
        chain(nir, inner)


def test_one_input_and_one_output() -> None:
    with pytest.raises(InteropError, match="2 nodes of kind Input"):
        chain(nir, graph("in a", "again a", "a out", again=nir.Input(np.array([1]))))
