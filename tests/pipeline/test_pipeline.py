"""The whole pipeline through the real `dvc` command, in a clone with a space in its path."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import numpy as np
import pandas as pd
import pytest
import yaml

from mnist_cnn.data.arrays import read_arrays, write_arrays
from tests.helpers import ROOT, STAGES, run, set_params, succeed

RESULTS = ("dvc.lock", "metrics", "models", "data/prepared")


def run_stage(clone: Path, stage: str) -> subprocess.CompletedProcess[str]:
    return run(clone, "python", "-m", f"stages.{stage}")


def contents(clone: Path) -> dict[str, bytes]:
    files = [file for place in RESULTS for file in (clone / place, *(clone / place).rglob("*"))]
    return {str(file): file.read_bytes() for file in files if file.is_file()}


def test_prepared_bytes_are_the_committed_ones(clone: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(clone, tmp_path / "clone", ignore=shutil.ignore_patterns(".git"))
    assert run_stage(copy, "prepare").returncode == 0
    outs = yaml.safe_load((copy / "dvc.lock").read_text())["stages"]["prepare"]["outs"]
    for out in outs:
        assert hashlib.md5((copy / out["path"]).read_bytes()).hexdigest() == out["md5"]
    assert len(outs) == 5


def test_the_pipeline_leaves_what_it_promises(pipeline: Path) -> None:
    train, validation, test = (
        read_arrays(pipeline / f"data/prepared/{name}.npz")
        for name in ("train", "validation", "test")
    )
    assert [len(split.labels) for split in (train, validation, test)] == [1000, 200, 400]
    data = pd.read_csv(pipeline / "metrics/data.csv")
    assert data[["train", "validation", "test"]].sum().tolist() == [1000, 200, 400]
    metrics = json.loads((pipeline / "metrics/metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx(1 - metrics["errors"] / 400)
    assert metrics["accuracy"] > 0.6
    assert metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"]
    misclassified = pd.read_csv(pipeline / "metrics/misclassified.csv")
    assert misclassified["actual"].tolist() == test.labels[misclassified["index"]].tolist()
    assert (misclassified["actual"] != misclassified["predicted"]).all()
    assert len(misclassified) == metrics["errors"]
    matrix = pd.read_csv(pipeline / "metrics/confusion_matrix.csv")
    assert matrix["count"].sum() == 400
    assert matrix.query("actual != predicted")["count"].sum() == metrics["errors"]
    report = pd.read_csv(pipeline / "metrics/classification_report.csv")
    assert report["support"].tolist() == data["test"].tolist()
    training = pd.read_csv(pipeline / "metrics/training.csv")
    assert training["epoch"].tolist() == [1, 2]
    exports = pd.read_csv(pipeline / "metrics/exports.csv", index_col="format")
    for name in ("onnx", "litert", "saved_model"):
        assert exports["largest_difference"][name] < 0.001
        assert exports["accuracy"][name] == training["val_accuracy"].iloc[-1]


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
        succeed(pipeline, "dvc", "repro", "--force", **elsewhere)
    finally:
        if cores:
            os.sched_setaffinity(0, cores)
    assert contents(pipeline) == before


def changed_stages(clone: Path) -> dict[str, list[str]]:
    """Return the stages that DVC would run again, with the changes to each."""
    status = json.loads(succeed(clone, "dvc", "status", "--json"))
    return {
        stage: [
            name
            for reason in reasons
            for names in (reason.values() if isinstance(reason, dict) else [[reason]])
            for name in names
        ]
        for stage, reasons in status.items()
    }


def test_what_computes_nothing_makes_no_stage_run_again(pipeline: Path, tmp_path: Path) -> None:
    clone = shutil.copytree(pipeline, tmp_path / "clone")
    for name in ("gate.py", "reading/predict.py", "reading/demo.html", "errors.py", "params.py"):
        path = clone / "mnist_cnn" / name
        path.write_text(path.read_text() + "\n# a comment\n")
    message = (clone / "mnist_cnn/errors.py").read_text().replace("error: ", "Error: ")
    (clone / "mnist_cnn/errors.py").write_text(message)
    params = (clone / "mnist_cnn/params.py").read_text()
    assert "images per step" in params
    (clone / "mnist_cnn/params.py").write_text(params.replace("images per step", "size of a batch"))
    set_params(clone, gate={"tolerated_drop": 0.01})
    assert changed_stages(clone) == {}


def test_what_a_stage_computes_with_makes_it_run_again(pipeline: Path, tmp_path: Path) -> None:
    clone = shutil.copytree(pipeline, tmp_path / "clone")
    for name in (
        *[f"stages/{stage}.py" for stage in STAGES],
        "mnist_cnn/files.py",
        "mnist_cnn/data/splits.py",
        "mnist_cnn/model/formats/onnx.py",
        "mnist_cnn/training/fit.py",
        "mnist_cnn/evaluation/scores.py",
        "requirements.txt",
    ):
        (clone / name).write_text((clone / name).read_text() + "\n# a change\n")
    set_params(
        clone,
        prepare={"seed": 1},
        model={"dropout": 0.1},
        train={"epochs": 1},
        evaluate={"calibration_bins": 7},
    )
    shared = {"mnist_cnn/files.py", "mnist_cnn/data"}
    model = {*shared, "mnist_cnn/model", "requirements.txt"}
    assert {stage: set(names) for stage, names in changed_stages(clone).items()} == {
        "prepare": {"stages/prepare.py", *shared, "params.yaml"},
        "train": {"stages/train.py", *model, "mnist_cnn/training", "params.yaml"},
        "export": {"stages/export.py", *model, "mnist_cnn/evaluation"},
        "evaluate": {"stages/evaluate.py", *model, "mnist_cnn/evaluation", "params.yaml"},
        "reader/dvc.yaml:train": {
            "mnist_cnn/model/formats/onnx.py",
            "mnist_cnn/training",
            "requirements.txt",
        },
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_packages_it_imports(stage: str) -> None:
    imported = grimp.build_graph("mnist_cnn", "stages", cache_dir=None).find_upstream_modules(
        f"stages.{stage}"
    )
    # These validate input and report problems. They don't affect results.
    imported -= {"mnist_cnn", "mnist_cnn.errors", "mnist_cnn.params"}
    packages = {"/".join(module.split(".")[:2]) for module in imported}
    expected = {path + ".py" if (ROOT / f"{path}.py").exists() else path for path in packages}
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    assert {dep for dep in deps if dep.startswith("mnist_cnn/")} == expected
    assert f"stages/{stage}.py" in deps


@pytest.mark.parametrize(
    ("stage", "section", "change", "complaint"),
    [
        (
            "prepare",
            "prepare",
            {"validation_split": 0.999},
            "class 0 has 117 images to train on, of which prepare.validation_split and",
        ),
        ("train", "train", {"epochs": 0}, "params.yaml: train.epochs is 0: it should be"),
        ("evaluate", "model", {"pool": 2}, "params.yaml: model.pool is not a parameter"),
    ],
)
def test_a_wrong_param_is_one_line(
    pipeline: Path, stage: str, section: str, change: dict[str, object], complaint: str
) -> None:
    params = (pipeline / "params.yaml").read_text()
    set_params(pipeline, **{section: change})
    done = run_stage(pipeline, stage)
    (pipeline / "params.yaml").write_text(params)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {complaint}")
    assert done.stderr.count("\n") == 1


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
    assert done.stderr.startswith(f"error: {Path('data/prepared', file)} is not usable (")
    assert done.stderr.count("\n") == 1


def test_validation_images_of_another_size_are_refused(pipeline: Path) -> None:
    path = pipeline / "data/prepared/validation.npz"
    content = path.read_bytes()
    write_arrays(path, [np.zeros((1, 8, 8, 1), np.float32)], np.zeros(1, np.int64))
    done = run_stage(pipeline, "train")
    path.write_bytes(content)
    assert done.returncode == 1
    name = Path("data/prepared/validation.npz")
    assert done.stderr.startswith(f"error: {name} holds images of shape (8, 8")
