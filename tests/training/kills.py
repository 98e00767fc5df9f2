"""Run by `test_kill.py`: trains in children of this process and kills them with SIGKILL, then resumes.

Python, torch and the kernels are started once; every run is a fork, so a kill is a real one and costs milliseconds.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import rheobase.files
from rheobase.training import checkpoint
from rheobase.training.folder import RunFolder
from training.tiny import train

EPOCHS = 6
LEARNING_RATE = 0.8  # so wild that some epochs are worse than the best one, and the last one is
POINTS = {  # name: the kills, one after another; each is (where, at which call of it)
    "after-metrics-of-first-epoch": [("metrics", 1)],
    "twice-after-metrics-of-first-epoch": [("metrics", 1), ("metrics", 1)],
    "half-a-line-of-first-epoch": [("half-line", 1)],
    "half-a-line": [("half-line", 3)],
    "after-metrics": [("metrics", 3)],
    "after-checkpoint-of-first-epoch": [("checkpoint", 1)],
    "half-a-checkpoint": [("half-file", 4)],
    "after-evaluation": [("evaluation", 1)],
    "several": [("step", 3), ("metrics", 2), ("replace", 5), ("step", 2), ("summary", 1)],
    **{f"checkpoint-file-{count}": [("replace", count)] for count in range(2, 9, 2)},
    **{f"after-checkpoint-of-epoch-{count}": [("checkpoint", count)] for count in range(2, 5)},
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(where: str, call: int) -> None:
    """Patch the library so that this process is killed at the `call`-th time that it comes to `where`."""
    count = 0

    def reached() -> bool:
        nonlocal count
        count += 1
        return count == call

    def after(function, holder, name):
        def patched(*arguments, **options):
            result = function(*arguments, **options)
            if reached():
                die()
            return result

        setattr(holder, name, patched)

    if where == "metrics":
        after(RunFolder.append_metrics, RunFolder, "append_metrics")
    elif where == "half-line":

        def half(self, metrics):
            if reached():
                with (self.path / "metrics.jsonl").open("a") as file:
                    file.write('{"epoch": 1, "loss')
                die()
            return append(self, metrics)

        append = RunFolder.append_metrics
        RunFolder.append_metrics = half
    elif where == "checkpoint":  # the checkpoint of an epoch is written, the best weights are not

        def save(path, *arguments):
            original(path, *arguments)
            if path.name == "checkpoint.safetensors" and reached():
                die()

        original = checkpoint.save
        checkpoint.save = save
    elif where == "step":
        after(torch.optim.AdamW.step, torch.optim.AdamW, "step")
    elif where == "replace":  # a file has been replaced
        after(Path.replace, Path, "replace")
    elif where == "half-file":

        def sync(descriptor):
            if reached():
                os.ftruncate(descriptor, 100)
                die()
            real(descriptor)

        real = rheobase.files.os.fsync
        rheobase.files.os.fsync = sync
    elif where == "evaluation":
        from rheobase.training import fit

        after(sys.modules[fit.__module__].write_evaluation, sys.modules[fit.__module__], "write_evaluation")
    elif where == "summary":
        RunFolder.write_summary = lambda *_: die()


def child(run: Path, kill: tuple[str, int] | None, delay: float | None = None) -> bool:
    """Train or resume in a child; whether it came to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            if kill is not None:
                arrange(*kill)
            train(run, resume=(run / "config.json").exists(), epochs=EPOCHS, learning_rate=LEARNING_RATE)
        except BaseException as error:
            print(f"{run.name}: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if delay is not None:
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return False
    if os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"{run.name}: failed")
    return True


def main(folder: Path) -> None:
    # The first training of a process imports the optimizer and numba, and loads kernels, for seconds: done once, before the
    # forks, in one thread, because no other would survive them.
    torch.set_num_threads(1)
    train(folder / "before", epochs=1, learning_rate=LEARNING_RATE)
    began = time.monotonic()
    child(folder / "whole", None)
    duration = time.monotonic() - began
    for name, kills in POINTS.items():
        for kill in kills:
            if child(folder / name, kill):
                raise SystemExit(f"{name}: was not killed at {kill}")
        child(folder / name, None)
    draws = random.Random(0)
    for number in range(4):
        run = folder / f"random-{number}"
        for _ in range(3):
            if (run / "summary.json").exists() or child(run, None, draws.uniform(0.05, 1.0) * duration):
                break
        if not (run / "summary.json").exists():
            child(run, None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
