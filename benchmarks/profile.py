"""`python -m benchmarks.profile [RECIPE]`: show where the time of a step goes.

Profiles TensorFlow's operations in an epoch of 200 steps of the recipe (default: `default`), after
one that isn't measured. Their times are sums over both threads, so they add up to about twice the
time of a step.
"""

import re
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from benchmarks.contestants import compose, mnist_arrays
from benchmarks.rivals import train_here
from mnist_cnn.data.arrays import Arrays

from mnist_cnn.model.backend import tf  # isort: skip # configures TensorFlow first
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

STEPS = 200
SMALLEST_SHARE = 0.01


def main(recipe: str) -> None:
    params, (train, _) = compose(recipe), mnist_arrays()
    settings = params.train.model_copy(update={"epochs": 2, "steps_per_epoch": STEPS})
    few = Arrays(train.images[:100], train.labels[:100])
    epochs = train_here(params.model_copy(update={"train": settings}), train, few, settings.seed)
    next(epochs)
    with TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            start = time.perf_counter()
            next(epochs)
            seconds = time.perf_counter() - start
        (trace,) = Path(folder).rglob("*.xplane.pb")
        picoseconds = operations(XSpace.FromString(trace.read_bytes()))
    images = STEPS * settings.batch_size
    cost = pd.Series(picoseconds, name="µs per image").sort_values(ascending=False) / 1e6 / images
    table = cost.to_frame().assign(share=cost / cost.sum())
    print(table[table["share"] >= SMALLEST_SHARE].to_markdown(floatfmt=(".1f", ".1f", ".0%")))
    print(f"\n{cost.sum():.1f} in all, in {1e6 * seconds / images:.1f} µs")


def operations(space: XSpace) -> Counter[str]:
    """Return the picoseconds of each kind of operation. Their events are named `NAME:KIND`; others
    contain them."""
    times = Counter[str]()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if match := re.fullmatch(r"[^:]+:(\w*[A-Z]\w+)", name):
                    times[match[1]] += event.duration_ps
    return times


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "default")
