"""The user's own dataset in the whole pipeline: oblong colour images in three classes."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.helpers import PARAMS_TEXT, STAGES, commit_all, run, set_params, stages_run, succeed

# Names that could break CSV, YAML or TeX.
NAMES = ["$blue_{", "grün, hell", "rot"]


def draw(folder: Path, count: int = 40) -> None:
    random = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        (folder / "train" / name).mkdir(parents=True)
        for i in range(count):
            image = random.integers(0, 100, (20, 16, 3), dtype=np.uint8)
            image[..., 2 - number] += 100
            Image.fromarray(image).save(folder / "train" / name / f"{i}.png")


@pytest.fixture(scope="module")
def own(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `dvc repro` has run on such data, with its results committed."""
    own = shutil.copytree(clone, tmp_path_factory.mktemp("own") / "clone")
    draw(own / "data/raw/colours")
    (own / "params.yaml").write_text(PARAMS_TEXT)
    set_params(
        own,
        prepare={"source": "colours", "test_split": 0.3, "validation_split": 0.3},
        train={"batch_size": 8, "learning_rate": 0.001, "shards": 1},
    )
    assert stages_run(own) == list(STAGES)
    commit_all(own)
    return own


def test_classes_keep_their_names(own: Path) -> None:
    data = pd.read_csv(own / "metrics/data.csv")
    assert data["class"].tolist() == NAMES
    assert data[["train", "validation", "test"]].to_numpy().tolist() == [[20, 8, 12]] * 3
    report = pd.read_csv(own / "metrics/classification_report.csv")
    assert report["class"].tolist() == NAMES
    errors = json.loads((own / "metrics/metrics.json").read_text())["errors"]
    misclassified = pd.read_csv(own / "metrics/misclassified.csv")
    assert misclassified["actual"].tolist() == [NAMES[i // 12] for i in misclassified["index"]]
    assert set(misclassified["predicted"]) <= set(NAMES)
    assert len(misclassified) == errors
    matrix = pd.read_csv(own / "metrics/confusion_matrix.csv")
    assert set(matrix["actual"]) == set(NAMES)
    assert matrix["count"].sum() == 36
    assert matrix.query("actual != predicted")["count"].sum() == errors


def test_the_metric_check_reads_the_names(own: Path) -> None:
    check = ("python", "-m", "mnist_cnn.gate")
    assert "no regression" in succeed(own, *check, "--baseline", "main")
    limits = yaml.safe_load(succeed(own, *check, "--suggest"))
    assert limits["colours"]["floors"]["accuracy"] > 0.5


def test_predict_refuses_a_model_for_other_images(own: Path) -> None:
    for model in ("model.onnx", "model.tflite"):
        command = ("python", "-m", "mnist_cnn.reading.predict", "--model", f"models/{model}")
        done = run(own, *command, "data/example.jpg")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(
            f"error: models/{model} is not usable (it takes images [20, 16, 3]): expected a model "
            "that takes images [28, 56, 1] and gives 111 probabilities or takes images [28, 28, 1] "
            "and gives 10 probabilities"
        )
        assert done.stderr.count("\n") == 1


def test_changed_data_runs_the_pipeline_again(own: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(own, tmp_path / "clone")
    Image.new("RGB", (16, 20)).save(changed / "data/raw/colours/train/rot/0.png")
    (changed / "data/raw/another").touch()
    printed = succeed(changed, "dvc", "repro", "--dry")
    assert "Running stage 'prepare'" in printed
    shutil.copy(own / "data/raw/colours/train/rot/0.png", changed / "data/raw/colours/train/rot")
    assert "Running stage" not in succeed(changed, "dvc", "repro", "--dry")


@pytest.mark.parametrize("known", ["ignored", "versioned"])
def test_an_experiment_in_a_copy_has_the_data(own: Path, tmp_path: Path, known: str) -> None:
    """Ignored data is copied with `--copy-paths`; after `dvc add`, it comes from DVC's cache."""
    clone = shutil.copytree(own, tmp_path / "clone")
    (clone / "data/raw/colours").rename(clone / "data/raw/own")
    options = ["--copy-paths", "data/raw/own"] if known == "ignored" else []
    if known == "versioned":
        succeed(clone, "dvc", "add", "data/raw/own")
        succeed(clone, "git", "add", "data/raw/own.dvc")
    command = ("dvc", "exp", "run", "--temp", *options, "-n", "other")
    succeed(clone, *command, "-S", "prepare.source=own", "-S", "prepare.test_split=0.5", "prepare")
    experiment = succeed(clone, "git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/other")
    table = succeed(clone, "git", "show", f"{experiment.strip()}:metrics/data.csv")
    assert pd.read_csv(io.StringIO(table))["test"].tolist() == [20, 20, 20]
