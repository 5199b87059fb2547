"""The user's own dataset in the whole pipeline: pictures of three colours."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from mnist_cnn.reading.demo import Server
from mnist_cnn.reading.reader import load_reader
from tests.helpers import PARAMS_TEXT, STAGES, commit_all, run, set_params, stages_run, succeed

# Names that could break CSV, YAML or TeX.
NAMES = ["$blue_{", "grün, hell", "rot"]


def picture(number: int, height: int = 20, width: int = 16) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 100, (height, width, 3), dtype=np.uint8)
    pixels[..., 2 - number] += 100
    return Image.fromarray(pixels)


def draw(folder: Path, count: int = 40) -> None:
    """Pictures of three colours, in several sizes and formats."""
    for number, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            suffix = ("png", "jpg", "webp")[i % 3]
            picture(number, 20 + i, 36).save(folder / name / f"{i}.{suffix}")
    (folder / NAMES[0] / "Thumbs.db").touch()


@pytest.fixture(scope="module")
def own(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `dvc repro` has run on such data, with its results committed."""
    own = shutil.copytree(clone, tmp_path_factory.mktemp("own") / "clone")
    draw(own / "data/raw/colours")
    (own / "params.yaml").write_text(PARAMS_TEXT)
    set_params(
        own,
        prepare={
            "source": "colours",
            "image_size": [20, 16],
            "test_split": 0.3,
            "validation_split": 0.3,
        },
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


def test_files_that_are_not_pictures_are_listed(own: Path) -> None:
    left_out = pd.read_csv(own / "data/prepared/left_out.csv")
    assert left_out["file"].tolist() == [f"data/raw/colours/{NAMES[0]}/Thumbs.db"]


@pytest.mark.parametrize("model", ["model.onnx", "model_int8.tflite"])
def test_predict_answers_with_the_classes(own: Path, tmp_path: Path, model: str) -> None:
    for number in range(3):
        picture(number, 60, 45).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").touch()
    command = ("python", "-m", "mnist_cnn.reading.predict", "--model", f"models/{model}")
    done = run(own, *command, "--format", "json", str(tmp_path))
    *answers, unreadable = map(json.loads, done.stdout.splitlines())
    assert [answer["class"] for answer in answers] == NAMES
    assert all(answer["sure"] == (answer["confidence"] >= 0.9) for answer in answers)
    assert (unreadable["class"], unreadable["sure"]) == (None, False)
    assert "not a recognised image format" in unreadable["error"]
    assert (done.returncode, done.stderr) == (1, "")
    table = run(own, *command, str(tmp_path / "1.png"), "--explain", str(tmp_path)).stdout
    assert table.startswith("class       confidence  picture\ngrün, hell  ")
    assert (tmp_path / "0001-1.png").is_file()
    rows = csv.DictReader(io.StringIO(run(own, *command, "--format", "csv", str(tmp_path)).stdout))
    assert [row["class"] for row in rows][1:4] == NAMES


def test_the_demo_answers_with_the_classes(own: Path) -> None:
    file = io.BytesIO()
    picture(2, 60, 45).save(file, "JPEG")
    with Server(0, load_reader(own / "models/model.onnx")) as server:
        answer = server.read(file.getvalue(), multiple=False)
    assert answer["class"] == "rot"
    (name, share), *others = answer["probabilities"]
    assert (name, share) == ("rot", answer["confidence"])
    assert {name for name, _ in others} == set(NAMES) - {"rot"}
    assert answer["image"].startswith("data:image/png;base64,")


def test_changed_data_runs_the_pipeline_again(own: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(own, tmp_path / "clone")
    Image.new("RGB", (16, 20)).save(changed / "data/raw/colours/rot/0.png")
    (changed / "data/raw/another").touch()
    printed = succeed(changed, "dvc", "repro", "--dry")
    assert "Running stage 'prepare'" in printed
    shutil.copy(own / "data/raw/colours/rot/0.png", changed / "data/raw/colours/rot")
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
