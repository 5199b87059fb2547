"""Parameters for all tests, and functions to run commands in clones of the repository."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from mnist_cnn.params import ConvolutionParams, ModelParams, Params

ROOT = Path(__file__).parent.parent

# A copy, so that changing params.yaml doesn't change the tests.
PARAMS_TEXT = """
prepare:
  source: mnist
  image_size: null
  resizing: pad
  color_mode: null
  skip_unreadable: false
  test_split: 0.2
  remove_leaked: false
  validation_split: 0.1
  minimum_per_class: 3
  seed: 42

model:
  convolutions:
    - filters: 32
      kernel_size: 3
      strides: 1
      pool_size: 2
  batch_normalization: false
  global_average_pooling: false
  dropout: 0.2
  dense_units: 128

train:
  seed: 42
  epochs: 3
  steps_per_epoch: null
  batch_size: 128
  learning_rate: 0.012
  final_learning_rate: 0.0
  warmup: 0.1
  label_smoothing: 0.0
  rotation: 0.0
  zoom: 0.0
  shear: 0.0
  translation: 1.0
  horizontal_flip: false
  class_weight: null
  shards: 2

evaluate:
  calibration_bins: 15

gate:
  limits:
    mnist:
      floors:
        accuracy: 0.98
      ceilings:
        loss: 0.06
  tolerated_drop: 0.0005
  significance_level: 0.05
"""
PARAMS = Params.model_validate(yaml.safe_load(PARAMS_TEXT))
# A convolution with pooling, one without, and every other kind of layer.
EVERY_BLOCK = ModelParams(
    convolutions=[
        ConvolutionParams(filters=4, kernel_size=5, strides=2),
        ConvolutionParams(filters=8, kernel_size=3, pool_size=2),
    ],
    batch_normalization=True,
    global_average_pooling=False,
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
    """Run a command that must succeed, and return its output."""
    done = run(folder, *command, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stages_run(clone: Path, *command: str) -> list[str]:
    """Run a DVC command (default: `dvc repro`). Return the stages not restored or skipped."""
    printed = succeed(clone, *(command or ("dvc", "repro")))
    return [name for name in STAGES if f"Running stage '{name}'" in printed]


def set_params(clone: Path, **sections: dict[str, object]) -> None:
    path = clone / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for section, values in sections.items():
        params[section] |= values
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def commit_all(clone: Path) -> None:
    # Start with an empty index: in copied clones, Git sometimes misses changed files.
    succeed(clone, "git", "read-tree", "--empty")
    succeed(clone, "git", "add", "--all")
    succeed(clone, "git", "commit", "--quiet", "-m", "all")
