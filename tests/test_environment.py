import json

import pytest

from rheobase import cli, environment
from rheobase.ops import kernels, processor


def test_says_that_kernels_compute():
    assert environment.describe()["neurons on the CPU"].startswith("fused kernels, compiled by numba 0.")


def test_says_why_the_reference_computes(monkeypatch):
    monkeypatch.setattr(kernels, "why_not", lambda device: f"{device} has a cold")
    assert environment.describe()["neurons on the CPU"] == "the plain reference, which is slow: cpu has a cold"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("always [madvise] never\n", "madvise, used"),
        ("always madvise [never]\n", "never: large outputs cost more than necessary"),
        ("", "unknown, used"),
        (None, "not on this system"),
    ],
)
def test_huge_pages(monkeypatch, tmp_path, setting, said):
    path = tmp_path / "enabled"
    if setting is not None:
        path.write_text(setting)
    monkeypatch.setattr(environment, "_HUGE_PAGES", path)
    assert environment.describe()["huge pages"] == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("processor\t: 0\nmodel name\t: Fast One\nprocessor\t: 1\nmodel name\t: Slow One\n", "Fast One, vector"),
        ("processor\t: 0\n", "by its kind, vector"),
        (None, "by its kind, vector"),
    ],
)
def test_the_processor(monkeypatch, tmp_path, text, said):
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(processor, "_CPUINFO", path)
    monkeypatch.setattr(environment.platform, "processor", lambda: "by its kind")
    assert environment.describe()["processor"].startswith(said)


def test_the_doctor_prints_it(capsys):
    assert cli.main(["doctor", "--env"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in environment.describe())


def test_the_doctor_asks_what_to_look_at(capsys):
    assert cli.main(["doctor"]) == 2
    assert "`rheobase doctor --env` this installation" in capsys.readouterr().err


def test_the_doctor_says_it_to_programs(capsys):
    assert cli.main(["doctor", "--env", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == environment.describe()
