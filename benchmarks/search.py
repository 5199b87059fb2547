"""`python -m benchmarks.search [RECIPE...]`: choose the recipes by cross-validation.

Trains each candidate in benchmarks/search.yaml on five sixths of MNIST's training images, and
counts its errors on the last sixth, the fold. There are three rounds, each with new folds. After a
round, only the better half of the candidates goes on, but at least two (successive halving,
Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943), and the first, which is the recipe
before the search. The test images aren't used.

Each training is a row of benchmarks/search.csv. What has a row isn't trained again, so the search
can be interrupted and extended. Takes about two hours on 2 CPU cores.
"""

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from omegaconf import OmegaConf
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from benchmarks.contestants import merge, mnist_arrays, subset
from benchmarks.rivals import train_here
from mnist_cnn.files import write_csv

FOLDS, ROUNDS = 6, 3
SEED = 0
CANDIDATES = Path("benchmarks/search.yaml")
RESULTS = Path("benchmarks/search.csv")
COLUMNS = ["recipe", "candidate", "fold", "errors", "seconds"]


def main(names: list[str]) -> None:
    recipes = yaml.safe_load(CANDIDATES.read_text(encoding="utf-8"))
    base = recipes.pop("base")
    for name in names or recipes:
        search(name, recipes[name], base)
    print(summary(pd.read_csv(RESULTS)).to_markdown(index=False))


def search(recipe: str, content: dict[str, Any], base: dict[str, Any]) -> None:
    """Add the trainings that are missing to RESULTS. Fold N trains with seed N."""
    results = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=COLUMNS)
    candidates = pd.Index(content["candidates"])
    present = candidates[0]
    for fold in range(1, ROUNDS * content["folds_per_round"] + 1):
        for name in tqdm(candidates, desc=f"{recipe}, fold {fold}", disable=None):
            rows = results[results["recipe"].eq(recipe) & results["candidate"].eq(name)]
            if fold in rows["fold"].to_list():
                continue
            settings = OmegaConf.merge(base, content["base"], content["candidates"][name])
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                outcome = process.submit(train, OmegaConf.to_container(settings), fold).result()
            results.loc[len(results)] = [recipe, name, fold, *outcome]
            write_csv(results, RESULTS)
        if fold % content["folds_per_round"]:
            continue
        rows = results[results["recipe"].eq(recipe) & results["candidate"].isin(candidates)]
        ranking = rows[rows["fold"] <= fold].groupby("candidate")["errors"].mean().sort_values()
        candidates = ranking.index[: max(2, len(ranking) // 2)].union([present], sort=False)


def train(settings: Any, fold: int) -> tuple[int, float]:
    """Return the number of errors on the images of `fold`, and the seconds of training."""
    images, _ = mnist_arrays()
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    kept, held_out = list(folds.split(images.labels, images.labels))[fold - 1]
    train, validation = subset(images, kept), subset(images, held_out)
    params = merge(OmegaConf.load("params.yaml"), settings)
    import_module("mnist_cnn.training.fit")  # before the time is taken
    start = time.perf_counter()
    *_, predict = train_here(params, train, validation, fold)
    seconds = time.perf_counter() - start
    errors = predict(validation.images).argmax(axis=1) != validation.labels
    return int(errors.sum()), round(seconds, 1)


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Return each candidate's mean errors per fold, which has 10,000 images, and median seconds."""
    grouped = results.groupby(["recipe", "candidate"], sort=False)
    table = grouped.agg(
        folds=("fold", "count"), errors=("errors", "mean"), seconds=("seconds", "median")
    )
    return table.reset_index().sort_values(
        ["recipe", "folds", "errors"], ascending=[True, False, True]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
