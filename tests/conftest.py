"""What the tests share: scratch clones of the repository, commands in them, a few small arrays."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from mnist_cnn.arrays import Arrays
from mnist_cnn.files import write_csv
from mnist_cnn.network import make_deterministic
from mnist_cnn.params import ConvolutionParams, ModelParams, Params

ROOT = Path(__file__).parent.parent

# Not the repository's own, so that whoever changes that need not change the tests.
PARAMS_TEXT = """
prepare:
  source: mnist
  test_split: 0.2
  remove_leaked: false
  validation_split: 0.1
  seed: 42

model:
  convolutions:
    - filters: 32
      kernel_size: 3
      strides: 1
      pool_size: 2
  batch_normalization: false
  dropout: 0.2
  dense_units: 128

train:
  seed: 42
  epochs: 3
  batch_size: 128
  learning_rate: 0.012
  final_learning_rate: 0.0
  warmup: 0.1
  label_smoothing: 0.0
  rotation: 0.0
  zoom: 0.0
  shear: 0.0
  translation: 1.0
  shards: 2

evaluate:
  batch_size: 1000
  calibration_bins: 15

gate:
  floors:
    accuracy: 0.98
  ceilings:
    loss: 0.06
  tolerated_drop: 0.0005
  significance_level: 0.05
"""
PARAMS = Params.model_validate(yaml.safe_load(PARAMS_TEXT))
# A convolution with and one without a pooling, and all that may stand between layers.
EVERY_BLOCK = ModelParams(
    convolutions=[
        ConvolutionParams(filters=4, kernel_size=5, strides=2),
        ConvolutionParams(filters=8, kernel_size=3, pool_size=2),
    ],
    batch_normalization=True,
    dropout=0.1,
    dense_units=16,
)

STAGES = ("prepare", "train", "export", "evaluate")
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@localhost",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@localhost",
}

make_deterministic()  # before a test runs anything else of TensorFlow


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def succeed(folder: Path, *command: str, **environment: str) -> str:
    """What a command prints that must not fail."""
    done = run(folder, *command, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stages_run(clone: Path) -> list[str]:
    printed = succeed(clone, "dvc", "repro")
    return [name for name in STAGES if f"Running stage '{name}'" in printed]


def set_params(clone: Path, **sections: dict[str, object]) -> None:
    path = clone / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for section, values in sections.items():
        params[section] |= values
    path.write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree as Git sees it, committed to a repository of its own."""
    clone = tmp_path_factory.mktemp("scratch clone")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in names.split("\0"):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    succeed(clone, "git", "init", "--quiet", "--initial-branch", "main")
    commit_all(clone)
    return clone


def commit_all(clone: Path) -> None:
    succeed(clone, "git", "add", "--all")
    succeed(clone, "git", "commit", "--quiet", "-m", "all")


def misread(clone: Path, lost: int) -> None:
    """Have the results say, and dvc.lock record, that so many more images were misread; fewer if
    `lost` is negative."""
    predictions = pd.read_csv(clone / "metrics/predictions.csv")
    right = predictions["actual"] == predictions["predicted"]
    changed = predictions.index[right if lost > 0 else ~right][: abs(lost)]
    predictions.loc[changed, "predicted"] = (predictions["actual"] + (lost > 0)) % 10
    write_csv(predictions, clone / "metrics/predictions.csv")
    metrics = json.loads((clone / "metrics/metrics.json").read_text())
    metrics["errors"] += lost
    (clone / "metrics/metrics.json").write_text(json.dumps(metrics))
    succeed(clone, "dvc", "commit", "--quiet", "--force")


@pytest.fixture(scope="session")
def small_pipeline(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `dvc repro` has run and its results are committed: 596 training images, 2
    epochs, 10,000 test images. Not to be changed: it is what the module's own are copied from."""
    small = shutil.copytree(clone, tmp_path_factory.mktemp("small") / "pipe line")
    (small / "params.yaml").write_text(PARAMS_TEXT)
    set_params(
        small,
        prepare={"validation_split": 0.99},
        train={"epochs": 2, "batch_size": 32},
        gate={"floors": {"accuracy": 0.6}, "ceilings": {"loss": 2.0}},
    )
    recipe = small / "recipes/baseline.yaml"
    recipe.write_text(recipe.read_text().replace("split: 0.2", "split: 0.98"))
    assert stages_run(small) == list(STAGES)
    commit_all(small)
    return small


@pytest.fixture(scope="module")
def pipeline(small_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `small_pipeline` for one module to change."""
    return shutil.copytree(small_pipeline, tmp_path_factory.mktemp("module") / "pipe line")


@pytest.fixture
def arrays() -> Arrays:
    """Twenty images of noise, two of each class."""
    images = np.random.default_rng(0).random((20, 28, 28, 1), dtype=np.float32)
    return Arrays(images, np.arange(20) % 10)
