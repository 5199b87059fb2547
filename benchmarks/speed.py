"""`python -m benchmarks.speed [ROUNDS]`: measure time and memory per training image.

Compares each recipe's training with Keras' `fit` and with PyTorch at their fastest, and with itself
without the settings that make it reproducible: the same network and batch size, and no
augmentation. Each measurement is the second epoch of a new process with 2 threads; the cases take
turns. Takes about six minutes a round on 2 CPU cores, and needs requirements-benchmark.txt. Needs
Linux or macOS.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import pandas as pd
from tqdm import tqdm

from benchmarks.compare import PEAK_MEMORY_UNIT
from benchmarks.contestants import compose, mnist_arrays
from benchmarks.rivals import (
    Epochs,
    free_tensorflow,
    train_here,
    train_with_keras,
    train_with_pytorch,
)
from mnist_cnn.data.arrays import Arrays
from mnist_cnn.params import Params

RECIPES = ("default", "fast", "minute", "record")
UNAUGMENTED = {
    "epochs": 2,
    "steps_per_epoch": None,
    "rotation": 0.0,
    "zoom": 0.0,
    "shear": 0.0,
    "translation": 0.0,
}


def main(rounds: int) -> None:
    rows = []
    for _ in tqdm(range(rounds), unit="round", disable=None):
        for recipe in RECIPES:
            for loop in LOOPS:
                command = [sys.executable, "-m", "benchmarks.speed", "--case", recipe, loop]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                rows.append({"recipe": recipe, "loop": loop} | json.loads(done.stdout))
    medians = pd.DataFrame(rows).groupby(["recipe", "loop"], sort=False).median()
    cost = medians["µs per image"].unstack(sort=False)
    cost["ours / best rival"] = cost["this project"] / cost[["Keras' fit", "PyTorch"]].min(axis=1)
    print(cost.to_markdown(floatfmt=(".0f",) * 5 + (".2f",)))
    print()
    print(medians["peak MB"].unstack(sort=False).to_markdown(floatfmt=".0f"))


def measure(recipe: str, loop: str) -> None:
    train, _ = mnist_arrays()
    params = compose(recipe)
    settings = params.train.model_copy(update=UNAUGMENTED)
    epochs = LOOPS[loop](params.model_copy(update={"train": settings}), train, settings.seed)
    next(epochs)
    start = time.perf_counter()
    next(epochs)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_MEMORY_UNIT / 1e6
    print(json.dumps({"µs per image": 1e6 * seconds / len(train.labels), "peak MB": peak}))


def train_here_briefly(params: Params, train: Arrays, seed: int) -> Epochs:
    few = Arrays(train.images[:1000], train.labels[:1000])
    return train_here(params, train, few, seed)


def train_here_freely(params: Params, train: Arrays, seed: int) -> Epochs:
    free_tensorflow(threads=1)  # the shards use the other
    return train_here_briefly(params, train, seed)


LOOPS: dict[str, Callable[[Params, Arrays, int], Epochs]] = {
    "this project": train_here_briefly,
    "Keras' fit": train_with_keras,
    "PyTorch": train_with_pytorch,
    "bytes free to differ": train_here_freely,
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        measure(*sys.argv[2:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
