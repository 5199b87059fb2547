"""What the tests share: the repository copied to a scratch folder, and a few small arrays."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from mnist_cnn.arrays import Arrays
from mnist_cnn.network import make_deterministic
from mnist_cnn.params import Params

ROOT = Path(__file__).parent.parent

# Not the repository's own, so that whoever changes that need not change the tests.
PARAMS_TEXT = """
prepare:
  source: mnist
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
  translation: 1
  threads: 2

evaluate:
  batch_size: 1000
  calibration_bins: 15
"""
PARAMS = Params.model_validate(yaml.safe_load(PARAMS_TEXT))

make_deterministic(threads=2)  # before a test runs anything else of TensorFlow


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
    for command in (
        ["init", "--quiet"],
        ["config", "user.name", "Test"],
        ["config", "user.email", "test@localhost"],
        ["add", "--all"],
        ["commit", "--quiet", "-m", "all"],
    ):
        subprocess.run(["git", *command], cwd=clone, check=True)
    return clone


@pytest.fixture
def arrays() -> Arrays:
    """Twenty images of noise, two of each class."""
    images = np.random.default_rng(0).random((20, 28, 28, 1), dtype=np.float32)
    return Arrays(images, np.arange(20) % 10)
