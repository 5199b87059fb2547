"""`python -m benchmarks.race [CONTESTANT...]`: compare training time and accuracy.

The contestants are the recipes, `fast` in other frameworks, the quickest public recipe, and what
people start from. They take turns, each in a new process with 2 threads. Prints a table; without
names, also writes the results to `benchmarks/race.csv` and the figure to `benchmarks/race.png`.
Takes over an hour on 2 CPU cores, and needs requirements-benchmark.txt.
"""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
from matplotlib import color_sequences
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from tqdm import tqdm

from benchmarks.contestants import ALTERNATIVES
from benchmarks.rivals import RIVALS
from mnist_cnn.files import write_csv

RUNS = {
    "fast": 10,
    "fast in Keras' fit": 10,
    "fast in PyTorch": 10,
    "train_mnist_fast": 10,
    "fast, 3 epochs": 5,
    "default": 5,
    "plain Keras script": 2,
    "Keras example": 2,
    "minute": 5,
    "record": 5,
    "PyTorch example": 1,
}
LEVELS = (0.9835, 0.99, 0.994)
RESULTS = Path("benchmarks/race.csv")


def main(names: list[str]) -> None:
    runs = {name: RUNS[name] for name in names or RUNS}
    rounds = itertools.product(range(1, max(runs.values()) + 1), runs)
    trainings = [(name, seed) for seed, name in rounds if seed <= runs[name]]
    rows = []
    for name, seed in tqdm(trainings, unit="training", disable=None):
        command = [sys.executable, "-m", "benchmarks.contestants", name, str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for epoch, line in enumerate(process.stdout or (), start=1):
                rows.append({"contestant": name, "seed": seed, "epoch": epoch} | json.loads(line))
        if process.returncode:
            sys.exit(f"{name}: exit code {process.returncode}")
    results = pd.DataFrame(rows)
    print(summary(results).to_markdown(index=False, disable_numparse=True))
    if not names:
        write_csv(results, RESULTS)
        picture(results).savefig(RESULTS.with_suffix(".png"), dpi=150)


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Return for each contestant the median seconds until its test accuracy reached each of LEVELS
    (`-` if a run never did), the median total seconds and the final accuracy."""
    rows = []
    for name, runs in results.groupby("contestant", sort=False):
        row = {"training": name, "runs": str(runs["seed"].nunique())}
        for level in LEVELS:
            reached = runs[runs["accuracy"] >= level].groupby("seed")["seconds"].min()
            every = len(reached) == runs["seed"].nunique()
            row[f"s to {level:.2%}"] = f"{reached.median():.1f}" if every else "-"
        last = runs.groupby("seed").last()
        row["s in all"] = f"{last['seconds'].median():.1f}"
        row["final accuracy"] = f"{last['accuracy'].mean():.2%}"
        row["sd"] = f"{last['accuracy'].std():.2%}" if len(last) > 1 else ""
        rows.append(row)
    return pd.DataFrame(rows)


def picture(results: pd.DataFrame) -> Figure:
    """Plot the mean test accuracy after each epoch against the mean seconds until then. Both axes
    are logarithmic; the accuracy axis in the share of errors."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=color_sequences["tab20"])  # there are more than ten contestants
    for name, runs in results.groupby("contestant", sort=False):
        curve = runs.groupby("epoch").mean(numeric_only=True)
        style = "o--" if name in ALTERNATIVES.keys() | RIVALS else "o-"
        axes.plot(curve["seconds"], 1 - curve["accuracy"], style, markersize=3, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    axes.set_xticks([5, 10, 20, 50, 100, 200, 500])
    axes.set_yticks([0.05, 0.02, 0.01, 0.005, 0.003])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{1 - error:.1%}"))
    axes.minorticks_off()
    axes.set_xlabel("training time in seconds")
    axes.set_ylabel("accuracy on the test images")
    axes.grid(which="major", alpha=0.3)
    axes.legend()
    return figure


if __name__ == "__main__":
    main(sys.argv[1:])
