"""Cut the embedded compact set of spoken digits from the full one.

    python tools/make_compact_spoken_digits.py FOLDER

FOLDER holds `fsdd_spikes_train.h5.xz` and `fsdd_spikes_test.h5.xz`. All samples are kept, with their labels and speakers.
Of the events, three things are made coarser: five neighbouring channels of 700 become one of 140, times are put on a grid
of 5 ms, and what comes later than 1 s is cut off. Events that then coincide are kept as often as they occur, so binning
with steps of a multiple of 5 ms and channels grouped by a multiple of 5 gives the counts of the full set.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from rheobase.data import Events, read_events, write_events

GROUP = 5
STEP = 0.005
LENGTH = 1.0
EMBEDDED = Path(__file__).parents[1] / "src/rheobase/data/embedded/spoken_digits"


def cut(events: Events) -> Events:
    """Return the compact version of event recordings."""
    # The same rounding as at binning, so that both sets fall into the same steps.
    steps = np.floor(events.times.astype(np.float64) * ((1 + 2**-22) / STEP)).astype(np.int64)
    samples = np.repeat(np.arange(len(events)), np.diff(events.offsets))
    units = events.units // GROUP
    kept = steps < round(LENGTH / STEP)
    steps, samples, units = steps[kept], samples[kept], units[kept]
    order = np.lexsort((units, steps, samples))
    # The centre of a step is 2.5 ms from its edges, float16 rounds by at most 0.25 ms: the step is never changed.
    return replace(
        events,
        times=((steps[order] + 0.5) * STEP).astype(np.float16),
        units=units[order],
        offsets=np.searchsorted(samples, np.arange(len(events) + 1)),
        channels=events.channels // GROUP,
    )


def main() -> None:
    """Write the two files of the compact set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for part in ("train", "test"):
        compact = cut(read_events(folder / f"fsdd_spikes_{part}.h5.xz"))
        target = EMBEDDED / f"{part}.h5.xz"
        write_events(target, compact, times_as=np.float16)
        print(f"{target}: {len(compact)} recordings, {len(compact.times)} events, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
