"""`python -m benchmarks.formats`: measure how long each model format takes to predict.

Prints the milliseconds for one image and for a hundred (medians of 200 calls; the formats take
turns in one process), and the seconds from starting Python to the first answer (medians of three
new processes). Takes a minute on 2 CPU cores.
"""

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from mnist_cnn.data.arrays import read_arrays
from mnist_cnn.model.formats import FORMATS, load_model

FIRST_ANSWER = """
import sys
from pathlib import Path
import numpy as np
from mnist_cnn.model.formats import load_model
load_model(Path(sys.argv[1]))(np.zeros((1, 28, 28, 1), np.float32))
"""


def main() -> None:
    paths = {name: path for name, (path, *_) in FORMATS.items()}
    models = {name: load_model(path) for name, path in paths.items()}
    images = read_arrays(Path("data/prepared/test.npz")).images
    starts = {name: partial(start, path) for name, path in paths.items()}
    columns = {"s to the first answer": in_turn(3, starts)}
    for count in (1, 100):
        calls = {name: partial(model, images[:count]) for name, model in models.items()}
        columns[f"ms for {count}"] = 1000 * in_turn(200, calls)
    table = pd.DataFrame(columns)
    print(table.rename_axis("format").to_markdown(floatfmt=".2f"))


def start(path: Path) -> None:
    subprocess.run([sys.executable, "-c", FIRST_ANSWER, str(path)], check=True)


def in_turn(times: int, calls: Mapping[str, Callable[[], object]]) -> "pd.Series[float]":
    """Return the median seconds of each call, by name."""
    seconds = defaultdict(list)
    for _ in range(times):
        for name, call in calls.items():
            before = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - before)
    return pd.DataFrame(seconds).median()


if __name__ == "__main__":
    main()
