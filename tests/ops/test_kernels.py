"""Which kernels compute, what they cost at import, and their machine code on disk."""

import os
import shutil
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
import torch

import rheobase
from rheobase.errors import RheobaseError
from rheobase.ops import kernels, lif
from rheobase.ops.lif import cpu

PACKAGE = Path(rheobase.__file__).parent


def python(code: str, **environment: str) -> subprocess.Popen:
    """A fresh interpreter that runs `code`."""
    paths = [str(PACKAGE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {"PYTHONPATH": os.pathsep.join(paths)} | environment
    arguments = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    return subprocess.Popen(
        arguments, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def output(process: subprocess.Popen) -> str:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out.strip()


EXAMPLE = """
    import torch
    from rheobase.ops import lif

    def example():
        x = torch.linspace(-1, 1, 60).view(10, 2, 3).square().requires_grad_()
        decay = torch.tensor(0.9, requires_grad=True)
        spikes, last = lif(x, decay)
        (spikes.sum() + last.sum()).backward()
        return [int(spikes.sum()), round(x.grad.double().sum().item(), 4), round(decay.grad.item(), 4)]
"""


@pytest.fixture(scope="module")
def expected() -> str:
    names: dict = {}
    exec(textwrap.dedent(EXAMPLE), names)
    return str(names["example"]())


def test_without_numba_the_reference_computes_and_says_so(expected):
    # Importing rheobase must load none of them: compilers, and the part of PyTorch that loads one.
    code = f"""{EXAMPLE}
    import sys
    import warnings
    import rheobase

    assert not {{"numba", "triton", "torch._dynamo"}} & set(sys.modules)

    class NoNumba:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "numba":
                raise ModuleNotFoundError("No module named 'numba'")

    sys.meta_path.insert(0, NoNumba())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert example() == example()
    print(example())
    print(*(warning.message for warning in caught), sep="|")
    """
    numbers, warning = output(python(code)).splitlines()
    assert numbers == expected
    assert warning == (
        "rheobase computes with its slow reference on cpu: numba cannot be imported: No module named 'numba'"
    )


def test_numba_without_its_compiler_leaves_the_work_to_the_reference(expected):
    code = f"""{EXAMPLE}
    from rheobase.ops import kernels
    print(example())
    print(kernels.why_not("cpu"))
    """
    assert output(python(code, NUMBA_DISABLE_JIT="1")).splitlines() == [expected, "NUMBA_DISABLE_JIT is set"]


@pytest.fixture
def asked_anew():
    """Whether there are kernels is found out once a process: here once more, and again for the other tests."""
    kernels._find.cache_clear()
    yield
    kernels._find.cache_clear()


@pytest.mark.usefixtures("asked_anew")
def test_kernels_can_be_switched_off(monkeypatch):
    assert kernels.fused(torch.ones(1))
    kernels._find.cache_clear()
    monkeypatch.setenv("RHEOBASE_KERNELS", "off")
    assert kernels.why_not("cpu") == kernels.why_not("cuda") == "RHEOBASE_KERNELS is off"
    assert not kernels.fused(torch.ones(1))


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize("chosen", ["on", ""])
def test_kernels_can_be_asked_for_in_words(monkeypatch, chosen):
    monkeypatch.setenv("RHEOBASE_KERNELS", chosen)
    assert kernels.why_not("cpu") is None


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize("chosen", ["Off", "0", "false", "reference", " off"])
def test_a_choice_of_kernels_that_there_is_not_is_refused(monkeypatch, chosen):
    monkeypatch.setenv("RHEOBASE_KERNELS", chosen)
    for device in ("cpu", "cuda", "meta"):
        with pytest.raises(RheobaseError, match=f"RHEOBASE_KERNELS is '{chosen}': expected 'on', .* or 'off', "):
            kernels.why_not(device)
    with pytest.raises(RheobaseError, match="RHEOBASE_KERNELS"):
        lif(torch.ones(3, 1), 0.9)


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize("error", [ImportError("no module"), AttributeError("_ARRAY_API"), SystemError("numpy 3")])
def test_a_compiler_that_does_not_load_is_a_warning_whatever_it_raises(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(kernels.importlib, "import_module", fail)
    with pytest.warns(UserWarning, match=f"slow reference on cuda: triton cannot be imported: {error}"):
        assert kernels.why_not("cuda") == f"triton cannot be imported: {error}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kernels.why_not("cuda") is not None


COMPILE = """
    import torch
    from rheobase.ops import lif
    x = torch.tensor([1.75, 0.5]).view(2, 1, 1)
    with torch.no_grad():
        print(*(lif(x, 0.5, reset=reset)[1].item() for reset in {resets}))
"""
LAST = {"subtract": 0.875, "zero": 0.5}


def test_processes_may_fill_the_cache_at_the_same_time(tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    orders = [("subtract", "zero"), ("zero", "subtract")]
    processes = [python(COMPILE.format(resets=resets), **cache) for resets in orders]
    for process, resets in zip(processes, orders, strict=True):
        assert output(process) == " ".join(str(LAST[reset]) for reset in resets)
    # numba writes a file's index first and the code after it. Processes that compile different kernels into one file may leave
    # an index that finds the other kernel.
    assert len(list(tmp_path.rglob("*.nbi"))) == 2


def test_each_kernel_is_found_in_the_cache_by_its_name():
    resets, shapes = ("subtract", "zero", "none"), ("FastSigmoid", "given")
    compiled = [cpu.forward_kernel(reset, 1, "float32", fire=True, save=True) for reset in resets]
    compiled += [
        cpu.backward_kernel("subtract", 1, "float32", shape, reset_gradient="detached", learn=learn)
        for shape in shapes
        for learn in (False, True)
    ]
    assert len({kernel.py_func.__qualname__ for kernel in compiled}) == len(compiled)


def test_a_kernel_that_no_other_process_would_find_is_refused():
    from numba import njit, types

    from rheobase.ops.compiler import compiled

    inner = njit(lambda x: x + 1)

    def kernel(x):
        return inner(x)

    with pytest.raises(AssertionError, match=r"plus_one closes over .* compiled in every process"):
        compiled(kernel, types.intp(types.intp), "plus_one")


def test_a_change_in_any_module_of_kernels_is_another_name_in_the_cache(monkeypatch, tmp_path):
    # The kernels of one module contain constants and functions of others, of which numba's cache knows nothing.
    from rheobase.ops import compiler

    shutil.copytree(PACKAGE / "ops", tmp_path / "ops")
    shutil.copy(PACKAGE / "surrogate.py", tmp_path)
    monkeypatch.setattr(compiler, "__file__", str(tmp_path / "ops" / "compiler.py"))
    names = set()
    modules = "linear/lists.py", "simd.py", "lif/cpu.py", "slope/cpu.py", "bfloat16.py", "../surrogate.py"
    for module in modules:
        compiler._sources.cache_clear()
        names.add(compiler._sources())
        with (tmp_path / "ops" / module).open("a") as file:
            file.write("# changed")
    compiler._sources.cache_clear()
    names.add(compiler._sources())
    compiler._sources.cache_clear()
    assert len(names) == len(modules) + 1


@pytest.fixture
def readable_package(tmp_path) -> Path:
    """The package in a place where no folder `__pycache__` can be made, for there is a file of that name."""
    for folder in ("", "ops", "ops/lif"):
        (tmp_path / "rheobase" / folder).mkdir(exist_ok=True)
        for source in (PACKAGE / folder).iterdir():
            link = tmp_path / "rheobase" / folder / source.name
            if source.name != "__pycache__" and source not in (PACKAGE / "ops", PACKAGE / "ops" / "lif"):
                link.symlink_to(source)
        (tmp_path / "rheobase" / folder / "__pycache__").touch()
    return tmp_path


def test_nothing_need_be_writable(readable_package):
    nowhere = {"NUMBA_CACHE_DIR": "/dev/null/cache", "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"}
    process = python(COMPILE.format(resets=("subtract",)), **nowhere, PYTHONPATH=str(readable_package))
    assert output(process) == str(LAST["subtract"])


def test_a_broken_file_in_the_cache_is_no_obstacle(tmp_path, monkeypatch):
    from numba import config

    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    for attempt in range(2):
        cpu.forward_kernel.cache_clear()
        with torch.no_grad():
            _, last = lif(torch.tensor([1.75, 0.5]).view(2, 1, 1), 0.5)
        assert last.item() == LAST["subtract"]
        (index,) = tmp_path.rglob("*.nbi")
        assert index.stat().st_size == 0 or attempt == 0
        index.write_bytes(b"")
