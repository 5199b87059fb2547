"""`python -m benchmarks.speed [ROUNDS]`: measure time and memory per training image.

Compares the default recipe with Keras' `fit`, and every recipe with and without the settings that
make it reproducible. Each measurement is the second epoch of a new process with 2 threads;
the cases take turns. Takes about six minutes a round on 2 CPU cores. Needs Linux or macOS.
"""

import json
import os
import resource
import subprocess
import sys
import time

import pandas as pd
from tqdm import tqdm

from benchmarks.compare import PEAK_MEMORY_UNIT
from benchmarks.contestants import THREADS, compose, mnist_arrays
from mnist_cnn.data.arrays import DIGITS, Arrays

RECIPES = ("default", "fast", "minute", "record")
KERAS = "Keras fit, batch size 64"
FREE = {f"{recipe}, bytes free to differ": recipe for recipe in RECIPES}


def main(rounds: int) -> None:
    cases = [KERAS, *RECIPES, *FREE]
    rows = []
    for case in tqdm(cases * rounds, unit="case", disable=None):
        command = [sys.executable, "-m", "benchmarks.speed", "--case", case]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append({"case": case} | json.loads(done.stdout))
    table = pd.DataFrame(rows).groupby("case", sort=False).median()
    print(table.to_markdown(floatfmt=".0f"))
    cost = table["µs per image"]
    print(f"\nKeras fit / default: {cost[KERAS] / cost['default']:.2f}")
    for case, recipe in FREE.items():
        print(f"{recipe} / {case}: {cost[recipe] / cost[case]:.2f}")


def measure(case: str) -> None:
    train, _ = mnist_arrays()
    seconds = keras_epoch(train) if case == KERAS else recipe_epoch(case, train)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_MEMORY_UNIT / 1e6
    print(json.dumps({"µs per image": 1e6 * seconds / len(train.labels), "peak MB": peak}))


def recipe_epoch(case: str, train: Arrays) -> float:
    """Return the seconds of the second of two epochs."""
    from mnist_cnn.model.backend import set_seed
    from mnist_cnn.model.network import build_network
    from mnist_cnn.training.fit import fit

    if case in FREE:
        from tensorflow.python.framework.config import disable_op_determinism

        disable_op_determinism()
        os.environ["ONEDNN_MAX_CPU_ISA"] = "DEFAULT"  # read when oneDNN is used for the first time
    params = compose(case.split(",")[0])
    set_seed(params.train.seed)
    network = build_network(params.model, train.images.shape[1:], len(DIGITS))
    settings = params.train.model_copy(update={"epochs": 2, "steps_per_epoch": None})
    few = Arrays(train.images[:1000], train.labels[:1000])
    epochs = fit(network, train, few, settings)
    next(epochs)
    start = time.perf_counter()
    next(epochs)
    return time.perf_counter() - start


def keras_epoch(train: Arrays) -> float:
    """Return the seconds of the second epoch of Keras' `fit` at its defaults."""
    import tensorflow as tf

    from benchmarks.plain_keras import plain_network

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    model = plain_network()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train.images, train.labels, batch_size=64, verbose=0)
    start = time.perf_counter()
    model.fit(train.images, train.labels, batch_size=64, verbose=0)
    return time.perf_counter() - start


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        measure(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
