"""The whole pipeline through the real `dvc` command, in a scratch clone with a space in its path.

Small only where a parameter makes it so: nearly all training images are held out for validation.
"""

import ast
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import yaml

from mnist_cnn.arrays import read_arrays, write_arrays
from tests.conftest import ENVIRONMENT, ROOT, STAGES, run, set_params, stages_run, succeed

RESULTS = ("dvc.lock", "metrics", "models", "data/prepared")


def run_stage(clone: Path, stage: str) -> subprocess.CompletedProcess[str]:
    return run(clone, "python", "-m", f"stages.{stage}")


def contents(clone: Path) -> dict[str, bytes]:
    files = [file for place in RESULTS for file in (clone / place, *(clone / place).rglob("*"))]
    return {str(file): file.read_bytes() for file in files if file.is_file()}


def test_prepared_bytes_are_the_committed_ones(clone: Path) -> None:
    assert run_stage(clone, "prepare").returncode == 0
    outs = yaml.safe_load((clone / "dvc.lock").read_text())["stages"]["prepare"]["outs"]
    for out in outs:
        assert hashlib.md5((clone / out["path"]).read_bytes()).hexdigest() == out["md5"]
    assert len(outs) == 5


def test_the_pipeline_leaves_what_it_promises(pipeline: Path) -> None:
    train, validation, test = (
        read_arrays(pipeline / f"data/prepared/{name}.npz")
        for name in ("train", "validation", "test")
    )
    assert len(train.labels) + len(validation.labels) == 60_000
    assert len(test.labels) == 10_000
    metrics = json.loads((pipeline / "metrics/metrics.json").read_text())
    predictions = pd.read_csv(pipeline / "metrics/predictions.csv")
    assert predictions["actual"].tolist() == test.labels.tolist()
    assert (predictions["actual"] != predictions["predicted"]).sum() == metrics["errors"]
    assert metrics["accuracy"] == pytest.approx(1 - metrics["errors"] / 10_000)
    assert metrics["accuracy"] > 0.6
    assert metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"]
    report = pd.read_csv(pipeline / "metrics/classification_report.csv")
    assert report["support"].sum() == 10_000
    assert pd.read_csv(pipeline / "metrics/confusions.csv")["count"].sum() == metrics["errors"]
    curves = pd.read_csv(pipeline / "metrics/training.csv")
    assert curves["epoch"].tolist() == [1, 2]


def test_a_second_run_changes_nothing_and_says_so(pipeline: Path) -> None:
    before = contents(pipeline)
    assert "Data and pipelines are up to date." in succeed(pipeline, "dvc", "repro")
    assert contents(pipeline) == before


def test_a_forced_run_elsewhere_gives_the_same_bytes(pipeline: Path, tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nsavefig.dpi: 50\n")
    before = contents(pipeline)
    cores = os.sched_getaffinity(0) if sys.platform == "linux" else set()
    try:
        if cores:
            os.sched_setaffinity(0, {min(cores)})
        elsewhere = {
            "TZ": "Asia/Kathmandu",
            "LC_ALL": "C",
            "PYTHONHASHSEED": "7",
            "MPLCONFIGDIR": str(tmp_path),
        }
        done = run(pipeline, "dvc", "repro", "--force", **elsewhere)
    finally:
        if cores:
            os.sched_setaffinity(0, cores)
    assert done.returncode == 0, done.stderr
    assert contents(pipeline) == before


def interrupt(
    clone: Path, command: list[str], moment: Callable[[], bool], name: signal.Signals
) -> None:
    """Start `command`, and send it and its children a signal once `moment` has come."""
    process = subprocess.Popen(
        command,
        cwd=clone,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that runs the tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not moment():
        assert process.poll() is None, f"{command} ended before it was interrupted"
        time.sleep(0.001)
    os.killpg(process.pid, name)
    _, errors = process.communicate()
    assert process.returncode != 0
    assert "Traceback" not in errors


def remove_partials(clone: Path) -> None:
    for partial in clone.glob("**/*.partial.*"):
        partial.unlink()


@pytest.mark.parametrize(
    ("stage", "partial"),
    [
        ("prepare", "data/prepared/train.partial.npz"),
        ("train", "models/model.partial.keras"),
        ("evaluate", "metrics/metrics.partial.json"),
    ],
)
def test_a_killed_stage_keeps_its_outputs(pipeline: Path, stage: str, partial: str) -> None:
    before = contents(pipeline)
    command = ["dvc", "repro", "--force", "--single-item", stage]
    interrupt(pipeline, command, (pipeline / partial).exists, signal.SIGKILL)
    remove_partials(pipeline)
    assert contents(pipeline) == before
    assert stages_run(pipeline) == []
    assert contents(pipeline) == before


def test_after_an_interrupted_training_the_next_run_completes(pipeline: Path) -> None:
    complete = contents(pipeline)
    (pipeline / "models/model.keras").unlink()
    partial = pipeline / "models/model.partial.keras"
    interrupt(pipeline, ["dvc", "repro"], partial.exists, signal.SIGINT)
    assert stages_run(pipeline) == ["train"]
    assert contents(pipeline) == complete


def test_curves_follow_the_training_and_come_back_when_it_fails(pipeline: Path) -> None:
    path = pipeline / "metrics/training.csv"
    complete = path.read_text()
    shown = []

    def changed() -> bool:
        shown.append(path.read_text())
        return shown[-1] != complete

    command = [sys.executable, "-m", "stages.train"]
    interrupt(pipeline, command, changed, signal.SIGINT)
    assert shown[-1] == "".join(complete.splitlines(keepends=True)[:2])
    assert path.read_text() == complete
    assert not list(pipeline.glob("metrics/*.partial.*"))


@pytest.mark.parametrize(
    ("section", "change", "rerun"),
    [
        ("evaluate", {"calibration_bins": 20}, ["evaluate"]),
        ("train", {"learning_rate": 0.002}, ["train", "export", "evaluate"]),
        ("model", {"dropout": 0.3}, ["train", "export", "evaluate"]),
        ("prepare", {"seed": 7}, list(STAGES)),
    ],
)
def test_a_changed_param_reruns_what_depends_on_it(
    pipeline: Path, section: str, change: dict[str, object], rerun: list[str]
) -> None:
    set_params(pipeline, **{section: change})
    assert stages_run(pipeline) == rerun


@pytest.mark.parametrize(
    ("section", "change", "complaint"),
    [
        (
            "prepare",
            {"validation_split": 1e-5},
            "params.yaml: prepare.validation_split is 1e-05: of the 5923 images of class 0",
        ),
        ("train", {"epochs": 0}, "params.yaml: train.epochs is 0: expected an integer from 1"),
        ("model", {"pool": 2}, "params.yaml: model.pool is not a parameter"),
        (
            "model",
            {"convolutions": [{"filters": 8, "kernel_size": 3, "pool_size": 27}]},
            "params.yaml: model.convolutions[0].pool_size is 27: expected at most 26",
        ),
    ],
)
def test_a_wrong_param_is_one_line_and_leaves_the_outputs(
    pipeline: Path, section: str, change: dict[str, object], complaint: str
) -> None:
    before, params = contents(pipeline), (pipeline / "params.yaml").read_text()
    set_params(pipeline, **{section: change})
    done = run(pipeline, "dvc", "repro")
    (pipeline / "params.yaml").write_text(params)
    assert done.returncode != 0
    assert f"error: {complaint}" in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(pipeline) == before


@pytest.mark.parametrize(
    ("stage", "file"),
    [("train", "train.npz"), ("train", "validation.npz"), ("evaluate", "test.npz")],
)
def test_a_damaged_array_file_is_one_line_and_exit_code_1(
    pipeline: Path, stage: str, file: str
) -> None:
    path = pipeline / "data/prepared" / file
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    before = contents(pipeline)
    done = run_stage(pipeline, stage)
    assert contents(pipeline) == before
    path.write_bytes(content)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: data/prepared/{file} is not usable (")
    assert done.stderr.count("\n") == 1


def test_validation_images_of_another_size_are_refused(pipeline: Path) -> None:
    path = pipeline / "data/prepared/validation.npz"
    content = path.read_bytes()
    write_arrays(path, [np.zeros((1, 8, 8, 1), np.float32)], np.zeros(1, np.int64))
    done = run_stage(pipeline, "train")
    path.write_bytes(content)
    assert done.returncode == 1
    assert done.stderr.startswith("error: data/prepared/validation.npz holds images of shape (8, 8")


@pytest.mark.parametrize(
    ("size", "activation", "complaint"),
    [
        (
            8,
            "softmax",
            "takes images (8, 8, 1) and gives (10,) probabilities: expected (28, 28, 1)",
        ),
        (28, "sigmoid", "gives numbers that are no probabilities: expected each image's"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    pipeline: Path, size: int, activation: str, complaint: str
) -> None:
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation=activation)]
    network = keras.Sequential([keras.Input((size, size, 1)), *layers])
    network.save(pipeline / "models/model.keras")
    before = contents(pipeline)
    done = run_stage(pipeline, "evaluate")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: models/model.keras {complaint}")
    assert contents(pipeline) == before


def imported_modules(file: Path) -> set[Path]:
    """The project's own modules that `file` imports, directly or through one another."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mnist_cnn"):
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
            modules = (Path(*name.split(".")).with_suffix(".py") for name in names)
            found |= {module for module in modules if (ROOT / module).exists()}
    return found.union(*(imported_modules(module) for module in found))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_just_the_code_it_imports(stage: str) -> None:
    script = Path(f"stages/{stage}.py")
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    code = {Path(dep) for dep in deps if dep.endswith(".py")}
    assert code == imported_modules(script) | {script}
