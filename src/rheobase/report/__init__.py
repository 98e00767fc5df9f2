"""One page about a training run: `report.html`.

A number at the end of a run does not say whether the network is healthy, which classes it confuses, or how to reproduce the
result. The report does, from the files of the run folder alone, so that it can be written again at any time, for runs that are
finished, unfinished, or somebody else's. It is one self-contained file, for reading in a browser, in light or dark, on a phone
or on paper, for sending and for keeping.

`record` reads the folder, `charts` draws, `figures` decides what is drawn, `page` assembles it.
"""

from pathlib import Path

from rheobase.files import atomic_write
from rheobase.report.page import render
from rheobase.report.record import read_run

__all__ = ["write_report"]


def write_report(run: str | Path) -> Path:
    """Write `report.html` into a run folder.

    The page depends only on the folder's files: the same files give the same page. An existing page is replaced in one step; on
    an error it stays unchanged.

    Args:
        run: the run folder, finished or not, with `config.json`, after its first epoch `metrics.jsonl`, and once
            it is finished also `summary.json` and `evaluation.npz`.

    Returns:
        The path of the page.

    Raises:
        RunError: if the folder is not a run folder, or one of its files is missing or damaged.

    Example:
        >>> write_report("no-such-run")
        Traceback (most recent call last):
        rheobase.errors.RunError: no-such-run: not a run folder (it has no config.json); give one made by `rheobase train`
    """
    # A name in a file may hold half a character (a lone surrogate), which UTF-8 cannot write.
    run = Path(run)
    page = render(read_run(run)).encode("utf-8", errors="replace")
    path = run / "report.html"
    with atomic_write(path) as file:
        file.write(page)
    return path
