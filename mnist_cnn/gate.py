"""`mnist-cnn-gate`: check that the results are good enough, and no worse than those of a baseline
and of the latest release.

Exit code 0: pass. 1: fail. 2: inconclusive, because a check couldn't be made.
"""

import argparse
import csv
import hashlib
import io
import json
import math
import re
import subprocess
import sys
import textwrap
from collections import Counter
from decimal import ROUND_UP, Context, Decimal
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

from mnist_cnn.errors import INSTALL_PIPELINE, InputError, printable, report_errors
from mnist_cnn.files import write_atomically

try:
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from ruamel.yaml import YAML
    from tabulate import tabulate

    from mnist_cnn.evaluation.significance import mcnemar
    from mnist_cnn.params import (
        MAX_YAML,
        PARAMS_PATH,
        GateParams,
        LimitParams,
        load_params,
        parse_yaml,
        read_yaml,
    )
except ModuleNotFoundError as error:
    print(f"error: mnist-cnn-gate needs {error.name}: {INSTALL_PIPELINE}", file=sys.stderr)
    sys.exit(2)

METRICS = "metrics/metrics.json"
MISCLASSIFIED = "metrics/misclassified.csv"
CONFUSION_MATRIX = "metrics/confusion_matrix.csv"
TEST_SET = "data/prepared/test.npz"
ROUNDING = 1e-6  # of metrics and confidences
MAX_RESULTS = 10_000_000  # bytes
IMAGES_LISTED = 40
SUGGEST = "`mnist-cnn-gate --suggest` prints some that you can add"
OTHER_BASELINE = (
    "name another baseline; if this is the latest release, tag a new one once you accept the change"
)


class Results(NamedTuple):
    """The results in the workspace or in a revision: `metrics.json`; the (actual, predicted)
    classes of each misclassified image, by index; the number of test images by these classes; and
    the MD5 of the file of test images."""

    source: str
    metrics: dict[str, float]
    misclassified: dict[int, tuple[str, str]]
    matrix: dict[tuple[str, str], int]
    test_set: str

    @property
    def images(self) -> int:
        return sum(self.matrix.values())


class Row(NamedTuple):
    """A check, as a row of the report: numbers as text, "" if there is none."""

    check: str
    verdict: str
    value: str
    limit: str
    baseline: str
    difference: str


class Report(NamedTuple):
    """The checks; a remark if there are no limits, or ""; and the lists of lost and won images, by
    title."""

    rows: list[Row]
    remark: str
    images: dict[str, str]


@partial(report_errors, exit_code=2)
def main() -> None:
    parser = argparse.ArgumentParser(prog="mnist-cnn-gate", description=__doc__)
    parser.add_argument("--baseline", metavar="REV", help="a Git revision or DVC experiment")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="also write a report to FILE")
    parser.add_argument("--suggest", action="store_true", help="only print limits for this dataset")
    arguments = parser.parse_args()
    if arguments.baseline is not None and not arguments.baseline:
        parser.error("--baseline is empty: expected a Git revision or a DVC experiment")
    if arguments.suggest and (arguments.baseline or arguments.markdown):
        parser.error("--suggest checks nothing: expected no --baseline and no --markdown")

    try:
        if arguments.suggest:
            print(suggest(), end="")
            sys.exit()
        report = check(arguments.baseline)
    except InputError as error:
        text = "\n".join(map(escape, str(error).split("\n")))
        write_report(arguments.markdown, f"## Metric check: inconclusive\n\n{text}\n")
        raise
    write_report(arguments.markdown, markdown(report))
    rows = [[printable(cell) for cell in row] for row in report.rows]
    print(tabulate(rows, headers=Row._fields, disable_numparse=True))
    if report.remark:
        print(report.remark)
    for title, listing in report.images.items():
        print(textwrap.fill(printable(f"{title}: {listing}"), 100, subsequent_indent="  "))
    sys.exit(any(row.verdict == "fail" for row in report.rows))


def check(rev: str | None) -> Report:
    """Check the dataset's limits, if it has any, and compare with `rev`, if given, and with the
    latest release, if there is one.

    Raises:
        InputError: a check can't be made, or there is nothing to check.
    """
    params = load_params()
    source = params.prepare.source
    check_lock()
    results = read_results(None)
    baseline = None if rev is None else read_results(rev)
    limits = params.gate.limits.get(source, LimitParams(floors={}, ceilings={}))
    rows = check_limits(limits, results, baseline)
    remark = "" if rows else f"{PARAMS_PATH} has no limits for {source}: {SUGGEST}"
    baselines = [] if baseline is None else [baseline]
    if (release := latest_release()) and (rev is None or commit(rev) != commit(release)):
        baselines.append(read_results(release))
    images = {}
    for before in baselines:
        lost, won = compare(results, before)
        counts = len(lost), len(won), results.images
        rows.append(check_regression(params.gate, before.source, *counts))
        if lost:
            images[f"{len(lost)} lost against {before.source}"] = describe_images(lost, results)
        if won:
            images[f"{len(won)} won against {before.source}"] = describe_images(won, before)
    if not rows:
        raise InputError(
            f"there is nothing to check for {source}: expected limits in {PARAMS_PATH}, a "
            f"--baseline or a release; {SUGGEST}"
        )
    return Report(rows, remark, images)


def check_lock() -> None:
    """Refuse results that `dvc repro` would recreate. Data doesn't have to be checked out.

    Raises:
        InputError: there is no Git or DVC repository, or `dvc.lock` doesn't match `dvc.yaml`,
            `params.yaml`, the code, the data or the results.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing", "--ignore-errors"]
    try:
        # DVC would read pipes and devices without end, so this comes first.
        declared = read_yaml(Path("dvc.yaml"))["stages"]
        recorded = read_yaml(Path("dvc.lock"))["stages"]
        for stage in recorded.values():
            for entry in stage.get("deps", []) + stage.get("outs", []):
                path = Path(entry["path"])
                if path.exists() and not (path.is_file() or path.is_dir()):
                    raise ValueError(f"{path} is not a regular file")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(done.stderr)
    except (OSError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"dvc.lock cannot be compared with the workspace ({' '.join(str(error).split())}): "
            "expected a complete, writable Git clone that no other DVC command is using"
        ) from error
    unchanged = re.findall(r"^Stage '(.+)' didn't change, skipping$", done.stdout, re.MULTILINE)
    params = dict(load_params())
    files = DVCFileSystem()
    changed = [
        name
        for name, stage in declared.items()
        if name not in unchanged
        or stage.get("frozen")  # DVC doesn't check these
        or declared_entries(stage, params) != recorded_entries(recorded[name])
        or not all(files.exists(dep["path"]) for dep in recorded[name]["deps"])
    ]
    if changed := changed + sorted(recorded.keys() - declared.keys()):
        raise InputError(
            f"dvc.lock does not match the workspace (stages {', '.join(changed)}): expected the "
            "results of these files; `dvc status` shows what differs, `dvc repro` recreates them"
        )


def declared_entries(stage: dict[str, Any], params: dict[str, Any]) -> tuple[set[str], ...]:
    """Return the dependencies, outputs and parameters of a stage in `dvc.yaml`."""

    def names(*keys: str) -> set[str]:
        entries = [entry for key in keys for entry in stage.get(key, [])]
        paths = (entry if isinstance(entry, str) else next(iter(entry)) for entry in entries)
        return {path.replace("${", "{").format_map(params) for path in paths}

    return names("deps"), names("outs", "metrics", "plots"), names("params")


def recorded_entries(stage: dict[str, Any]) -> tuple[set[str], ...]:
    """Return the dependencies, outputs and parameters of a stage in `dvc.lock`."""
    deps, outs = ({entry["path"] for entry in stage.get(key, [])} for key in ("deps", "outs"))
    return deps, outs, {name for names in stage.get("params", {}).values() for name in names}


def latest_release() -> str | None:
    """Return the latest tag `v[0-9]*` among the ancestors of HEAD, if there is one.

    Raises:
        InputError: Git fails, or the clone is shallow.
    """
    tag = git("describe", "--tags", "--abbrev=0", "--always", "--match", "v[0-9]*")
    if not tag:
        raise InputError(
            "the latest release is unknown: expected `git describe --tags --always` to work"
        )
    if tag.startswith("v"):
        return tag
    if git("rev-parse", "--is-shallow-repository") == "true":
        raise InputError(
            "the latest release is unknown in a shallow clone: expected all commits and tags; "
            "`git fetch --unshallow --tags` gets them"
        )
    return None


def commit(rev: str) -> str:
    return git("rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")


def git(*arguments: str) -> str:
    """Return the output of a Git command, or an empty string if it fails."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def read_results(rev: str | None) -> Results:
    """Read the results in the workspace, or in `rev`: a Git revision or a DVC experiment.

    Raises:
        InputError: there is no such revision, or its results are missing, damaged or differ from
            its `dvc.lock`.
    """
    source = rev or "the workspace"
    try:
        files = DVCFileSystem(rev=rev)
        evaluate = parse_yaml(read_file(files, "dvc.lock", MAX_YAML))["stages"]["evaluate"]
        recorded = {entry["path"]: entry["md5"] for entry in evaluate["deps"] + evaluate["outs"]}
        contents = []
        for name in (METRICS, MISCLASSIFIED, CONFUSION_MATRIX):
            if name not in recorded:
                raise ValueError(f"dvc.lock has no {name}")
            contents.append(read_file(files, name, MAX_RESULTS))
            if hashlib.md5(contents[-1], usedforsecurity=False).hexdigest() != recorded[name]:
                raise ValueError(f"{name} is not the one that dvc.lock records")
        return parse_results(source, recorded[TEST_SET], *contents)
    except DvcException as error:
        raise InputError(
            f"{source}: {' '.join(str(error).split())}: expected a commit, branch, tag or "
            "experiment in this clone; get missing ones with `git fetch` or, in a shallow clone, "
            "`git fetch --unshallow`"
        ) from error
    except Exception as error:  # parsers raise many types on damaged files
        remedy = OTHER_BASELINE if rev else "recreate them with `dvc repro --force evaluate`"
        raise InputError(
            f"{source}: the results cannot be read ({' '.join(str(error).split())}): expected "
            f"files from this version of the pipeline, as recorded in dvc.lock; {remedy}"
        ) from error


def read_file(files: "DVCFileSystem", name: str, limit: int) -> bytes:
    """Read a file in the workspace or a revision; raise ValueError unless it's a regular one of at
    most `limit` bytes."""
    info = files.info(name)
    if info["type"] != "file" or info["size"] > limit:
        raise ValueError(f"{name} is not a file of at most {limit:,} bytes")
    content: bytes = files.read_bytes(name)
    return content


def parse_results(
    source: str, test_set: str, metrics: bytes, misclassified: bytes, matrix: bytes
) -> Results:
    """Parse the contents of the three files; raise ValueError if they contradict each other."""
    values = parse_metrics(metrics)
    mistakes, confidences = parse_misclassified(misclassified)
    cells = parse_confusion_matrix(matrix)
    images = sum(cells.values())
    errors = sum(count for (actual, predicted), count in cells.items() if actual != predicted)
    if not values["errors"] == len(mistakes) == errors:
        raise ValueError(
            f"{METRICS} has {values['errors']} errors, {MISCLASSIFIED} {len(mistakes)}, "
            f"{CONFUSION_MATRIX} {errors}"
        )
    if any(not 0 <= index < images for index in mistakes):
        raise ValueError(f"{MISCLASSIFIED} has images beyond the {images} of {CONFUSION_MATRIX}")
    if Counter(mistakes.values()) != {pair: n for pair, n in cells.items() if pair[0] != pair[1]}:
        raise ValueError(f"{MISCLASSIFIED} has other pairs of classes than {CONFUSION_MATRIX}")
    check_metrics(values, cells, confidences)
    return Results(source, values, mistakes, cells, test_set)


def parse_metrics(content: bytes) -> dict[str, float]:
    """Parse `metrics.json`; raise ValueError for a value that isn't a finite number."""
    metrics = dict(json.loads(content))
    for name, value in metrics.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
    return metrics


def check_metrics(
    metrics: dict[str, float], matrix: dict[tuple[str, str], int], confidences: list[float]
) -> None:
    """Raise ValueError for a metric that contradicts the confusion matrix or the confidences of the
    misclassified images."""
    for name, value in recompute_metrics(matrix, metrics.get("macro_recall", 0)).items():
        if abs(metrics.get(name, value) - value) > ROUNDING:
            raise ValueError(f"{name} is {metrics[name]}, but {CONFUSION_MATRIX} gives {value:.6f}")
    # The class of a misclassified image is no likelier than the predicted class, or all others.
    likeliest = (min(confidence, 1 - confidence) + ROUNDING for confidence in confidences)
    lowest = sum(-math.log(probability) for probability in likeliest) / sum(matrix.values())
    if metrics.get("loss", lowest) < lowest - ROUNDING:
        raise ValueError(
            f"loss is {metrics['loss']}, but {MISCLASSIFIED} gives at least {lowest:.6f}"
        )
    if not 0 <= metrics.get("expected_calibration_error", 0) <= 1:
        raise ValueError(
            f"expected_calibration_error is {metrics['expected_calibration_error']}, outside [0, 1]"
        )


def recompute_metrics(matrix: dict[tuple[str, str], int], macro_recall: float) -> dict[str, float]:
    """Compute the metrics that the confusion matrix determines, as `compute_metrics` does.

    The matrix lacks classes without test images that are never predicted. Their recalls are 0, so
    the mean, `macro_recall`, tells how many there are.
    """
    actual, predicted = Counter[str](), Counter[str]()
    for (truth, answer), count in matrix.items():
        actual[truth] += count
        predicted[answer] += count
    names = actual.keys() | predicted.keys()
    right = {name: matrix.get((name, name), 0) for name in names}
    recalls = [right[name] / max(actual[name], 1) for name in names]
    classes = max(len(names), round(sum(recalls) / macro_recall) if macro_recall > 0 else 0)
    precisions = [right[name] / max(predicted[name], 1) for name in names]
    f1_scores = [2 * right[name] / (actual[name] + predicted[name]) for name in names]
    images = actual.total()
    low, high = wilson_interval(sum(right.values()), images)
    return {
        "accuracy": sum(right.values()) / images,
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_precision": sum(precisions) / classes,
        "macro_recall": sum(recalls) / classes,
        "macro_f1": sum(f1_scores) / classes,
        "worst_class_recall": min(recalls) if classes == len(names) else 0,
    }


def parse_misclassified(content: bytes) -> tuple[dict[int, tuple[str, str]], list[float]]:
    """Parse `misclassified.csv` to classes (actual, predicted) by index, and confidences; raise
    ValueError for wrong columns, an image out of order or classified correctly, or a confidence
    outside [0, 1]."""
    rows = parse_csv(MISCLASSIFIED, content, ["index", "actual", "predicted", "confidence"])
    images = {int(index): (actual, predicted) for index, actual, predicted, _ in rows}
    if [int(index) for index, *_ in rows] != sorted(images):
        raise ValueError(f"{MISCLASSIFIED} doesn't list the images in increasing order")
    for index, actual, predicted, confidence in rows:
        if actual == predicted or not 0 <= float(confidence) <= 1:
            raise ValueError(f"{MISCLASSIFIED} has {index},{actual},{predicted},{confidence}")
    return images, [float(confidence) for *_, confidence in rows]


def parse_confusion_matrix(content: bytes) -> dict[tuple[str, str], int]:
    """Parse `confusion_matrix.csv` to counts by classes (actual, predicted); raise ValueError for
    wrong columns, no rows, a repeated pair of classes or a count that isn't positive."""
    rows = parse_csv(CONFUSION_MATRIX, content, ["actual", "predicted", "count"])
    cells = {(actual, predicted): int(count) for actual, predicted, count in rows}
    if not 0 < len(cells) == len(rows) or min(cells.values()) < 1:
        raise ValueError(f"{CONFUSION_MATRIX} doesn't have one positive count per pair of classes")
    return cells


def parse_csv(name: str, content: bytes, columns: list[str]) -> list[list[str]]:
    header, *rows = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
    if header != columns:
        raise ValueError(f"{name} has the columns {header}")
    return rows


def suggest() -> str:
    """Return limits for the dataset, from the present results, as lines to paste into `params.yaml`
    under `gate.limits`.

    Raises:
        InputError: the results are missing, damaged or not those that `dvc.lock` records.
    """
    source = load_params().prepare.source
    check_lock()
    limits = suggest_limits(read_results(None))
    lines = io.StringIO()
    YAML().dump({source: limits}, lines)  # the library that reads them, so it quotes what it must
    return textwrap.indent(lines.getvalue(), "    ")


def suggest_limits(results: Results) -> dict[str, dict[str, float]]:
    """Return floors and ceilings that another seed keeps and a plainly bad model doesn't.

    They allow twice the error, loss, calibration error and size. The errors are the upper ends of
    their 95 % Wilson score intervals. The loss and the calibration error are raised by the same
    margin as the error of all images, as each image that another seed gets wrong can raise them.
    """
    images, errors = Counter[str](), Counter[str]()
    for (actual, predicted), count in results.matrix.items():
        images[actual] += count
        errors[actual] += count if actual != predicted else 0
    _, error = wilson_interval(errors.total(), images.total())
    margin = error - errors.total() / images.total()
    highest = {
        "accuracy": error,
        "worst_class_recall": max(
            wilson_interval(errors[name], images[name])[1] for name in images
        ),
    }
    floors = {name: 1 - twice(value) for name, value in highest.items()}
    ceilings = {
        "loss": twice(results.metrics["loss"] + margin),
        "expected_calibration_error": twice(results.metrics["expected_calibration_error"] + margin),
    }
    return {
        "floors": {name: float(floor) for name, floor in floors.items() if floor > 0},
        "ceilings": {name: float(ceiling) for name, ceiling in ceilings.items()}
        | {"model_size": int(twice(results.metrics["model_size"]))},
    }


def wilson_interval(count: int, images: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a rate (Wilson 1927,
    https://doi.org/10.1080/01621459.1927.10502953). Importing SciPy's takes a second."""
    rate, z2 = count / images, NormalDist().inv_cdf(0.975) ** 2 / images
    centre = (rate + z2 / 2) / (1 + z2)
    margin = math.sqrt(rate * (1 - rate) * z2 + z2**2 / 4) / (1 + z2)
    return centre - margin, centre + margin


def twice(value: float) -> Decimal:
    """Double a value and round it up to two digits."""
    return Context(prec=2, rounding=ROUND_UP).create_decimal(str(2 * value))


def check_limits(limits: LimitParams, results: Results, baseline: Results | None) -> list[Row]:
    """Compare metrics with their floors and ceilings.

    Raises:
        InputError: a limit is on an unknown metric.
    """
    rows = []
    bounds = [(name, ">=", bound) for name, bound in limits.floors.items()]
    bounds += [(name, "<=", bound) for name, bound in limits.ceilings.items()]
    for name, sign, bound in bounds:
        if name not in results.metrics:
            raise InputError(
                f"{PARAMS_PATH}: {name}, named under gate.limits, is not a metric: "
                f"expected one of {', '.join(results.metrics)}"
            )
        value = results.metrics[name]
        before = baseline.metrics.get(name) if baseline else None
        rows.append(
            Row(
                name,
                "pass" if (value >= bound if sign == ">=" else value <= bound) else "fail",
                f"{value:.10g}",
                f"{sign} {bound:.10g}",
                "" if before is None else f"{before:.10g}",
                "" if before is None else f"{value - before:+.10g}",
            )
        )
    return rows


def compare(results: Results, baseline: Results) -> tuple[list[int], list[int]]:
    """Return the indices of the test images that only the baseline classifies correctly (lost), and
    of those that only `results` do (won).

    Raises:
        InputError: the two used different test images.
    """
    if (results.test_set, results.images) != (baseline.test_set, baseline.images):
        raise InputError(
            f"{baseline.source} was evaluated on another test set: expected the same {TEST_SET}; "
            f"{OTHER_BASELINE}"
        )
    now, before = results.misclassified.keys(), baseline.misclassified.keys()
    return sorted(now - before), sorted(before - now)


def check_regression(params: GateParams, baseline: str, lost: int, won: int, images: int) -> Row:
    """Fail a drop in accuracy that is larger than tolerated and statistically significant."""
    gain = (won - lost) / images
    p = mcnemar(lost, won)
    failed = -gain > params.tolerated_drop and p < params.significance_level
    return Row(
        f"no regression against {baseline}",
        "fail" if failed else "pass",
        f"{lost} lost, {won} won, p = {p:.2g}",
        f"drop <= {params.tolerated_drop:.10g} or p >= {params.significance_level:.10g}",
        "",
        f"{gain:+.10g}",
    )


def describe_images(images: list[int], results: Results) -> str:
    """List the first of `images`, with their actual and predicted classes in `results`."""
    classes = [(index, *results.misclassified[index]) for index in images[:IMAGES_LISTED]]
    names = [f"{index} ({actual} as {predicted})" for index, actual, predicted in classes]
    rest = len(images) - len(names)
    return ", ".join(names) + (f" and {rest} more" if rest else "")


def markdown(report: Report) -> str:
    """Format the report for a pull request."""
    rows = [row._replace(check=escape(row.check)) for row in report.rows]
    failed = [row.check for row in rows if row.verdict == "fail"]
    title = f"Metric check: fail ({', '.join(failed)})" if failed else "Metric check: pass"
    table = tabulate(rows, headers=Row._fields, tablefmt="github", disable_numparse=True)
    remark = [report.remark] if report.remark else []
    details = [
        f"<details><summary>{escape(name)}</summary>\n\n{escape(listing)}\n</details>"
        for name, listing in report.images.items()
    ]
    return "\n\n".join([f"## {title}", table, *remark, *details]) + "\n"


def escape(text: str) -> str:
    """Escape what Markdown or HTML might interpret, for either."""
    return re.sub(r"[&<>|`*~$@#:\\[\]]", lambda match: f"&#{ord(match[0])};", printable(text))


def write_report(path: Path | None, text: str) -> None:
    if path:
        with write_atomically(path) as partial:
            partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
