"""`python -m mnist_cnn.gate`: are the last results good enough, and no worse than a baseline's?

Exit code 0: they pass. 1: they fail. 2: it cannot be told, which is never a pass.
"""

import argparse
import csv
import hashlib
import io
import json
import math
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import RevError
from dvc.stage.serialize import to_single_stage_lockfile
from scipy.special import bdtr
from tabulate import tabulate

from mnist_cnn.errors import InputError, reported
from mnist_cnn.params import PARAMS_PATH, GateParams, load_params

METRICS = "metrics/metrics.json"
PREDICTIONS = "metrics/predictions.csv"
TEST_SET = "data/prepared/test.npz"
PREDICTIONS_DTYPE = np.dtype(
    [("index", np.int64), ("actual", object), ("predicted", object), ("confidence", np.float64)]
)
IMAGES_LISTED = 40


class Results(NamedTuple):
    """What a run left: `metrics.json`; `predictions.csv` as a structured array [N] of
    `PREDICTIONS_DTYPE`; the MD5 digest of the test set they are about."""

    metrics: dict[str, float]
    predictions: npt.NDArray[np.void]
    test_set: str


class Row(NamedTuple):
    """A check, as a row of the report: numbers as they are shown, "" where there is none."""

    check: str
    limit: str
    value: str
    baseline: str
    difference: str
    verdict: str


@partial(reported, exit_code=2)
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mnist_cnn.gate", description=__doc__)
    parser.add_argument("--baseline", metavar="REV", help="Git revision or DVC experiment")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the report there too")
    arguments = parser.parse_args()
    if arguments.baseline is not None and not arguments.baseline:
        parser.error("--baseline is empty: expected a Git revision or a DVC experiment")

    try:
        rows, images = check(arguments.baseline)
    except InputError as error:
        if arguments.markdown:
            write(arguments.markdown, f"## Metric check: it cannot be told\n\n{error}\n")
        raise
    if arguments.markdown:
        write(arguments.markdown, markdown(rows, images))
    print(tabulate(rows, headers=Row._fields, disable_numparse=True))
    for title, listing in images.items():
        print(textwrap.fill(f"{title}: {listing}", 100, subsequent_indent="  "))
    sys.exit(any(row.verdict == "fail" for row in rows))


def check(rev: str | None) -> tuple[list[Row], dict[str, str]]:
    """Make all checks, those against a baseline if `rev` names one; also list the images that were
    lost and won.

    Raises:
        InputError: a check cannot be made, or there is none to make.
    """
    params = load_params().gate
    check_lock()
    results = read_results(None)
    if rev is None:
        rows = check_bounds(params, results, None)
        if not rows:
            raise InputError(
                f"{PARAMS_PATH}: gate.floors and gate.ceilings are empty: expected a metric in one "
                "of them, or a --baseline"
            )
        return rows, {}
    baseline = read_results(rev)
    lost, won = compare(results, baseline)
    rows = check_bounds(params, results, baseline)
    rows.append(check_regression(params, len(lost), len(won), len(results.predictions)))
    return rows, {
        f"{len(lost)} lost against {rev}": listed(lost, results),
        f"{len(won)} won against {rev}": listed(won, baseline),
    }


def check_lock() -> None:
    """Refuse results that `dvc repro` would make anew. Data that is not checked out is no reason.

    Raises:
        InputError: there is no Git or DVC repository, or `dvc.lock` does not match `dvc.yaml`,
            `params.yaml`, the code, the data or the results.
    """
    try:
        repo = Repo()
        recorded = yaml.safe_load(Path("dvc.lock").read_bytes())["stages"]
        with repo.lock:
            stages = repo.index.stages
            made = {out.fs_path for stage in stages for out in stage.outs}
            changed = [
                stage.addressing
                for stage in stages
                if stage.frozen  # DVC would not look
                or stage.changed(allow_missing=True, upstream=stages)
                or to_single_stage_lockfile(stage) != recorded[stage.addressing]
                or not all(dep.exists or dep.fs_path in made for dep in stage.deps)
            ]
        changed += recorded.keys() - {stage.addressing for stage in stages}
    except (DvcException, OSError, LookupError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise InputError(
            f"dvc.lock cannot be compared with the workspace ({' '.join(str(error).split())}): "
            "expected a whole, writable Git clone that no other DVC command is using"
        ) from error
    if changed:
        raise InputError(
            f"dvc.lock does not match the workspace (stages {', '.join(changed)}): expected the "
            "results of these files; `dvc status` says what differs, `dvc repro` makes them anew"
        )


def read_results(rev: str | None) -> Results:
    """Read the results of the workspace, or of `rev`: a Git revision or a DVC experiment.

    Raises:
        InputError: there is no such revision, or its results are missing, damaged or not those
            that its `dvc.lock` records.
    """
    place = "the workspace" if rev is None else f"baseline {rev}"
    try:
        files = Repo(rev=rev).dvcfs
        evaluate = yaml.safe_load(files.read_bytes("dvc.lock"))["stages"]["evaluate"]
        recorded = {entry["path"]: entry["md5"] for entry in evaluate["deps"] + evaluate["outs"]}
        contents = {name: files.read_bytes(name) for name in (METRICS, PREDICTIONS)}
        for name, content in contents.items():
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != recorded[name]:
                raise ValueError(f"{name} is not the one that dvc.lock records")
        metrics = parse_metrics(contents[METRICS])
        predictions = parse_predictions(contents[PREDICTIONS])
        errors = np.count_nonzero(predictions["actual"] != predictions["predicted"])
        if metrics["errors"] != errors:
            raise ValueError(f"{METRICS} has {metrics['errors']} errors, {PREDICTIONS} {errors}")
        return Results(metrics, predictions, recorded[TEST_SET])
    except RevError as error:
        raise InputError(
            f"{place}: {error}: expected a commit, branch, tag or experiment of this clone; "
            "`git fetch` brings what is missing, in a shallow clone `git fetch --unshallow`"
        ) from error
    except Exception as error:  # whatever damaged files make of their readers
        problem = " ".join(str(error).strip("'\"").split())
        raise InputError(
            f"{place}: the results cannot be read ({problem}): expected {METRICS} and "
            f"{PREDICTIONS} of a complete run, as its dvc.lock records them"
        ) from error


def parse_metrics(content: bytes) -> dict[str, float]:
    """Read `metrics.json`; a ValueError where a value is not a finite number."""
    metrics = dict(json.loads(content))
    for name, value in metrics.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
    return metrics


def parse_predictions(content: bytes) -> npt.NDArray[np.void]:
    """Read `predictions.csv`; a ValueError where it has other columns, no row, or a gap."""
    header, *rows = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
    if header != list(PREDICTIONS_DTYPE.names or ()):
        raise ValueError(f"{PREDICTIONS} has the columns {header}")
    if not rows:
        raise ValueError(f"{PREDICTIONS} has no row")
    predictions = np.array([tuple(row) for row in rows], PREDICTIONS_DTYPE)
    if not np.array_equal(predictions["index"], np.arange(len(predictions))):
        raise ValueError(f"{PREDICTIONS} does not list the images one by one")
    return predictions


def check_bounds(params: GateParams, results: Results, baseline: Results | None) -> list[Row]:
    """Hold metrics to the floors and ceilings of `params`.

    Raises:
        InputError: there is no such metric.
    """
    rows = []
    bounds = [(name, ">=", bound) for name, bound in params.floors.items()]
    bounds += [(name, "<=", bound) for name, bound in params.ceilings.items()]
    for name, sign, bound in bounds:
        if name not in results.metrics:
            raise InputError(
                f"{PARAMS_PATH}: {name}, named under gate, is not a metric: "
                f"expected one of {', '.join(results.metrics)}"
            )
        value = results.metrics[name]
        before = baseline.metrics.get(name) if baseline else None
        rows.append(
            Row(
                name,
                f"{sign} {bound:.10g}",
                f"{value:.10g}",
                "" if before is None else f"{before:.10g}",
                "" if before is None else f"{value - before:+.10g}",
                "pass" if (value >= bound if sign == ">=" else value <= bound) else "fail",
            )
        )
    return rows


def compare(
    results: Results, baseline: Results
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Numbers of the test images that the baseline alone read correctly, and `results` alone: lost
    and won.

    Raises:
        InputError: the two are not about the same test images.
    """
    now, before = results.predictions, baseline.predictions
    if results.test_set != baseline.test_set or not np.array_equal(now["actual"], before["actual"]):
        raise InputError(
            f"the baseline was evaluated on another test set: expected the same {TEST_SET} and the "
            "same labels; name a baseline evaluated on them"
        )
    right_now = now["predicted"] == now["actual"]
    right_before = before["predicted"] == before["actual"]
    return np.flatnonzero(right_before & ~right_now), np.flatnonzero(right_now & ~right_before)


def check_regression(params: GateParams, lost: int, won: int, images: int) -> Row:
    """A drop fails that is larger than tolerated and not explained by chance."""
    gain = (won - lost) / images
    p = mcnemar(lost, won)
    failed = -gain > params.tolerated_drop and p < params.significance_level
    return Row(
        "no regression",
        f"drop <= {params.tolerated_drop:.10g} or p >= {params.significance_level:.10g}",
        f"{lost} lost, {won} won, p = {p:.2g}",
        "",
        f"{gain:+.10g}",
        "fail" if failed else "pass",
    )


def mcnemar(lost: int, won: int) -> float:
    """Exact one-sided McNemar test (McNemar 1947, https://doi.org/10.1007/BF02295996): the
    probability, in [0, 1], of so many images lost or more among those lost or won, if each of these
    had been as likely to be won."""
    return float(bdtr(won, lost + won, 0.5))


def listed(images: npt.NDArray[np.int64], results: Results) -> str:
    """The numbers of the first images, and how `results` misreads them."""
    predictions = results.predictions[images[:IMAGES_LISTED]]
    names = [f"{p['index']} ({p['actual']} as {p['predicted']})" for p in predictions]
    rest = len(images) - len(names)
    return ", ".join(names) + (f" and {rest} more" if rest else "")


def markdown(rows: list[Row], images: dict[str, str]) -> str:
    """The report for a pull request."""
    failed = [row.check for row in rows if row.verdict == "fail"]
    title = f"Metric check: fail ({', '.join(failed)})" if failed else "Metric check: pass"
    table = tabulate(rows, headers=Row._fields, tablefmt="github", disable_numparse=True)
    details = [
        f"<details><summary>{name}</summary>\n\n{listing}\n</details>"
        for name, listing in images.items()
    ]
    return "\n\n".join([f"## {title}", table, *details]) + "\n"


def write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}): expected a path in a writable folder"
        ) from error


if __name__ == "__main__":
    main()
