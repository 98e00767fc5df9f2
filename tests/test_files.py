import json
import os
import stat
from pathlib import Path

import pytest

from rheobase.files import atomic_write, write_json


def test_the_new_content_replaces_the_old_at_the_end(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["weights.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("exists", [True, False])
def test_whatever_goes_wrong_the_old_content_stays_and_nothing_else(tmp_path, error, exists):
    path = tmp_path / "weights.bin"
    if exists:
        path.write_bytes(b"old")

    def write():
        with atomic_write(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert os.listdir(tmp_path) == (["weights.bin"] if exists else [])
    assert not exists or path.read_bytes() == b"old"


def test_a_target_that_cannot_be_replaced_leaves_no_temporary_file(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(OSError, match="taken"), atomic_write(tmp_path / "taken") as file:
        file.write(b"x")
    assert os.listdir(tmp_path) == ["taken"]


def test_folders_are_made(tmp_path):
    with atomic_write(tmp_path / "a" / "b" / "notes.txt") as file:
        file.write(b"done")
    assert (tmp_path / "a" / "b" / "notes.txt").read_text() == "done"


def test_within_the_block_the_file_can_be_read_back_by_name_and_by_handle(tmp_path):
    with atomic_write(tmp_path / "data.h5") as file:
        file.write(b"bytes")
        file.flush()
        temporary = Path(file.name)
        assert temporary.parent == tmp_path  # the same disk, or taking the place would be a copy
        assert temporary.suffix == ".h5"
        assert temporary.read_bytes() == b"bytes"
        file.seek(0)
        assert file.read() == b"bytes"
    assert not temporary.exists()


def test_the_content_is_on_disk_before_it_takes_the_place(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("replace"), replace(self, target))[1])
    with atomic_write(tmp_path / "file") as file:
        file.write(b"x")
    assert order == ["fsync", "replace"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    old = os.umask(0o027)
    try:
        (tmp_path / "plain").touch()
        with atomic_write(tmp_path / "atomic") as file:
            file.write(b"x")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")]
    assert modes == [0o640, 0o640]


def test_json_round_trip(tmp_path):
    value = {"name": "größe", "numbers": [1, 2.5, None], "inner": {"yes": True}}
    write_json(tmp_path / "value.json", value)
    text = (tmp_path / "value.json").read_text()
    assert json.loads(text) == value
    assert text.endswith("}\n")
    assert text.count("\n") > 4  # for people too


def test_what_is_no_json_writes_nothing(tmp_path):
    write_json(tmp_path / "value.json", {"old": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(tmp_path / "value.json", {"new": object()})
    assert json.loads((tmp_path / "value.json").read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["value.json"]
