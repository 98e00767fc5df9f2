"""Tests of rheobase.data.gestures, on a small data set in the official layout."""

from dataclasses import replace

import numpy as np
import pytest
from tests.data.test_aedat import HEADER, packet

from rheobase.data import EventDataset, dvs128_gesture
from rheobase.errors import DataError
from rheobase.recipes import find
from rheobase.recipes.ttfs import MOST_SPIKES
from rheobase.training import Display

TABLE = "class,startTime_usec,endTime_usec\n1,1000,2000\n11,3000,2003000\n11,2003000,2003001\n"
EVENTS = [
    (999, 0, 0, True, True),
    (1000, 127, 1, True, True),
    (1999, 2, 127, False, True),
    (2000, 9, 9, True, True),
    (3000, 0, 0, False, True),
    (1_503_000, 5, 6, True, True),
    (2_003_000, 7, 8, True, True),
]


def write(folder, *names):
    for name in names:
        (folder / f"{name}.aedat").write_bytes(HEADER + packet(EVENTS[:4]) + packet(EVENTS[4:]))
        (folder / f"{name}_labels.csv").write_text(TABLE)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "dvs128_gesture/DvsGesture"
    folder.mkdir(parents=True)
    write(folder, "user01_led", "user01_lab", "user24_led")
    (folder / "trials_to_train.txt").write_text("user01_led.aedat\nuser01_lab.aedat\n\n")
    (folder / "trials_to_test.txt").write_text("user24_led.aedat\r\n")
    return folder


def test_gestures_are_cut_out_of_the_recordings(tmp_path, folder):
    told = []
    train, test = dvs128_gesture(tmp_path, progress=lambda *news: told.append(news))
    assert (len(train), len(test)) == (6, 3)
    size = (folder / "user01_led.aedat").stat().st_size
    assert told == [
        ("trials_to_train.txt", size, 2 * size),
        ("trials_to_train.txt", 2 * size, 2 * size),
        ("trials_to_test.txt", size, size),
    ]
    assert train.labels.tolist() == [0, 10, 10] * 2
    assert train.classes[0] == "hand clapping"
    assert train.classes[10] == "other gestures"
    assert (train.channels, train.sensor, train.units.dtype, train.simulated) == (
        32_768,
        (2, 128, 128),
        np.uint16,
        False,
    )
    first, second, third = (test.recording(sample) for sample in range(3))
    assert first.times.tolist() == pytest.approx([0, 0.000999])
    assert first.units.tolist() == [127 + 128 + 16_384, 2 + 128 * 127]
    assert second.times.tolist() == pytest.approx([0, 1.5])
    assert second.units.tolist() == [0, 5 + 128 * 6 + 16_384]
    assert third.times.tolist() == [0]
    x, label = EventDataset(test, dt=0.5, steps=4, flatten=False)[1]
    assert (x.shape, label) == ((4, 2, 128, 128), 10)
    assert x.nonzero().tolist() == [[0, 0, 0, 0], [3, 1, 6, 5]]


def test_only_the_beginning_of_each_gesture(tmp_path, folder):
    _, test = dvs128_gesture(tmp_path, seconds=1.5)
    assert np.diff(test.offsets).tolist() == [2, 1, 1]
    for wrong in (0.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=rf"seconds: got {wrong}, expected a finite number above 0"):
            dvs128_gesture(tmp_path, seconds=wrong)


def test_a_missing_set_is_named_with_the_remedy(tmp_path):
    with pytest.raises(
        DataError, match=r"dvs128_gesture/DvsGesture: there is no such folder; unpack DvsGesture\.tar\.gz"
    ):
        dvs128_gesture(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("trials_to_train.txt", "../user01_led.aedat\n", "got '../user01_led.aedat', expected names like"),
        ("trials_to_train.txt", "user09_led.aedat\n", r"user09_led\.aedat: there is no such file"),
        ("trials_to_train.txt", "", "the data set is empty"),
        ("trials_to_train.txt", "user01_lé.aedat", "not a text of ASCII letters"),
        ("user01_led_labels.csv", "", "got '' on top, expected class,startTime_usec,endTime_usec"),
        ("user01_led_labels.csv", "1,2,3\n", "got '1,2,3' on top"),
        ("user01_led_labels.csv", TABLE + "1,2\n", "line 5: got '1,2', expected a class and two times"),
        ("user01_led_labels.csv", TABLE + "1,-2,3\n", "line 5: got '1,-2,3', expected a class and two times"),
        ("user01_led_labels.csv", TABLE + f"1,2,{10**30}\n", "line 5: got .* expected a class and two times"),
        ("user01_led_labels.csv", TABLE + "12,2,3\n", "line 5: got '12,2,3', expected a class from 1 to 11"),
        ("user01_led_labels.csv", TABLE + "1,3,2\n", "line 5: got '1,3,2', expected a class from 1 to 11 that ends"),
        ("user01_led.aedat", "jpeg", r"user01_led\.aedat: not an AEDAT 3\.1 file"),
        ("user01_led.aedat", None, "event 1 is at x 128, y 3, expected 0 to 127"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, folder, name, content, message):
    wrong = HEADER + packet([(1, 0, 0, True, True), (2, 128, 3, True, True)])
    (folder / name).write_bytes(wrong if content is None else content.encode())
    with pytest.raises(DataError, match=message):
        dvs128_gesture(tmp_path)


def test_the_recipe_trains_on_them(tmp_path, folder):
    """From files in the official format to an accuracy: the network of the recipe, narrower."""
    many = [f"user{number:02}_led" for number in range(1, 9)]
    write(folder, *many)
    (folder / "trials_to_train.txt").write_text("\n".join(f"{name}.aedat" for name in many))
    recipe = replace(find("ttfs-gesture").recipe, channels=(2,) * 5, hidden=(4,), steps=4, seconds=2.0)
    recipe = replace(recipe, training=replace(recipe.training, epochs=1, batch_size=8, threads=1))
    parts = recipe.splits(tmp_path)
    result = recipe.train(parts, display=Display())
    assert (len(parts.train) + len(parts.validation), len(parts.test)) == (24, 3)
    assert 0 <= result.summary["test_accuracy"] <= 1
    assert result.summary["measures"][MOST_SPIKES] <= 1
