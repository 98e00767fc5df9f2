"""The spoken digits: what is trained on, what is tested on, and the network's memories."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase.data import EventDataset, spoken_digits
from rheobase.errors import DataError
from rheobase.recipes import SpokenDigits

OFFICIAL = spoken_digits("compact")


@pytest.fixture(autouse=True)
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rheobase.recipes.spoken_digits.spoken_digits", lambda edition, folder: OFFICIAL)


def test_the_parts_are_the_official_split() -> None:
    splits = SpokenDigits().splits()
    train, validation, test = splits.train, splits.validation, splits.test
    assert isinstance(train, EventDataset)
    assert len(test) == len(OFFICIAL[1].labels)
    assert sorted([*train.chosen, *validation.chosen]) == list(range(len(OFFICIAL[0].labels)))
    assert len(validation) == pytest.approx(0.1 * len(OFFICIAL[0].labels), abs=10)
    assert train.features == validation.features == test.features == (140,)
    assert train.classes == test.classes
    assert splits.also_test == {}


def test_training_alone_is_augmented() -> None:
    splits = SpokenDigits().splits()
    for part, changes in ((splits.train, True), (splits.validation, False), (splits.test, False)):
        plain, _ = part.batch(np.arange(4))
        drawn, _ = part.batch(np.arange(4), (0, 1))
        assert torch.equal(plain, drawn) is not changes


def test_a_held_out_speaker_is_heard_nowhere_in_training() -> None:
    splits = SpokenDigits(holdout_speaker="theo").splits()
    ((name, unheard),) = splits.also_test.items()
    assert name == "unheard speaker theo"

    def speakers(part: EventDataset) -> set[str]:
        return {part.events.speaker_names[index] for index in part.events.speakers[part.chosen]}

    for part in (splits.train, splits.validation, splits.test):
        assert "theo" not in speakers(part)
        assert len(speakers(part)) > 2
    assert speakers(unheard) == {"theo"}
    with pytest.raises(DataError, match="expected one of george"):
        SpokenDigits(holdout_speaker="nobody").splits()


def test_the_validation_set_does_not_depend_on_the_seed() -> None:
    one, other = (SpokenDigits(training=rb.Training(seed=seed)).splits().validation for seed in (0, 1))
    assert one.fingerprint() == other.fingerprint()


def test_the_memories_are_spread_between_the_shortest_and_the_longest() -> None:
    network = SpokenDigits(hidden=(5, 3), shortest_memory=2.0, longest_memory=50.0).network()
    neurons = [layer for layer in network if isinstance(layer, rb.LIF)]
    assert [layer.features for layer in neurons] == [5, 3]
    for layer in neurons:
        memories = -1 / layer.decay.log()
        steps = memories.log().diff()
        torch.testing.assert_close(memories[[0, -1]], torch.tensor([2.0, 50.0]), rtol=1e-3, atol=0)
        torch.testing.assert_close(steps, steps[:1].expand_as(steps), rtol=1e-3, atol=0)
        assert layer.learn == ("decay", "threshold")
    assert network(torch.zeros(4, 2, 140)).shape == (4, 2, 10)


def test_no_hidden_layer_is_a_linear_readout() -> None:
    network = SpokenDigits(hidden=()).network()
    assert [type(layer) for layer in network] == [nn.Linear, rb.LeakyReadout]


def test_synapses_that_learn_delays() -> None:
    network = SpokenDigits(hidden=(5, 3), longest_delay=4).network()
    delays = [layer.longest for layer in network if isinstance(layer, rb.DelayedLinear)]
    assert delays == [4, 4]
    assert network(torch.zeros(6, 2, 140)).shape == (6, 2, 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"longest_delay": -1}, "longest_delay must be at least 0, got -1"),
        ({"hidden": (3, 0)}, r"hidden must be at least 1 neuron in each layer, got \(3, 0\)"),
        ({"shortest_memory": 0.0}, "shortest_memory must be above 0"),
        ({"shortest_memory": 60.0}, "at most longest_memory, got 60.0 and 30.0"),
        ({"longest_memory": math.inf}, "longest_memory"),
        ({"longest_memory": math.nan}, "longest_memory"),
    ],
)
def test_settings_that_make_no_network(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpokenDigits(**changes)
