"""A training that was interrupted goes on, to the same bytes; one that is another starts anew."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import keras
import numpy as np
import pytest

from mnist_cnn.arrays import Arrays, read_arrays, write_arrays
from mnist_cnn.checkpoint import Checkpoint, stage_key
from mnist_cnn.network import build_network, make_deterministic
from mnist_cnn.params import TrainParams
from mnist_cnn.training import fit
from tests.conftest import ENVIRONMENT, PARAMS, run, set_params

TRAIN = TrainParams.model_validate(PARAMS.train.model_dump() | {"batch_size": 4, "epochs": 4})


def network() -> keras.Sequential:
    make_deterministic(TRAIN.seed)
    return build_network(PARAMS.model, (28, 28, 1), 10)


def test_a_fit_goes_on_after_its_last_epoch(tmp_path: Path, arrays: Arrays) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", "key")
    whole, interrupted, resumed = network(), network(), network()
    epochs = list(fit(whole, arrays, arrays, TRAIN))
    list(islice(fit(interrupted, arrays, arrays, TRAIN, checkpoint), 2))
    fitting = fit(resumed, arrays, arrays, TRAIN, checkpoint)
    assert list(islice(fitting, 2)) == epochs[:2]
    for saved, restored in zip(interrupted.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(restored, saved)
    assert list(fitting) == epochs[2:]
    for expected, found in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("key", "damage"), [("another", lambda _: None), ("key", cut), ("key", Path.unlink)]
)
def test_what_is_not_this_trainings_state_is_left_alone(
    tmp_path: Path, arrays: Arrays, key: str, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "checkpoint.npz"
    list(fit(network(), arrays, arrays, TRAIN, Checkpoint(path, "key")))
    damage(path)
    fresh = network()
    before = fresh.get_weights()
    assert Checkpoint(path, key).restore(fresh.variables) == []
    for old, new in zip(before, fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_whatever_makes_dvc_train_again_is_another_training(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pipeline)
    keys = [stage_key("train"), stage_key("train")]
    set_params(pipeline, evaluate={"calibration_bins": 7})
    keys.append(stage_key("train"))
    assert len(set(keys)) == 1
    set_params(pipeline, train={"learning_rate": 0.001})
    keys.append(stage_key("train"))
    for path in ("mnist_cnn/network.py", "data/prepared/validation.npz", "requirements.txt"):
        (pipeline / path).write_bytes((pipeline / path).read_bytes() + b"#")
        keys.append(stage_key("train"))
    assert len(set(keys)) == 5


def test_five_times_killed_the_training_gives_the_same_bytes(
    small_pipeline: Path, tmp_path: Path
) -> None:
    clone = shutil.copytree(small_pipeline, tmp_path / "killed")
    set_params(clone, train={"epochs": 40})
    validation = clone / "data/prepared/validation.npz"
    images, labels, _ = read_arrays(validation)
    write_arrays(validation, [images[:500]], labels[:500])
    command = [sys.executable, "-m", "stages.train"]
    assert run(clone, *command).returncode == 0
    outputs = [clone / name for name in ("models/model.keras", "metrics/training.csv")]
    expected = [output.read_bytes() for output in outputs]

    checkpoint = clone / "models/checkpoint.npz"
    assert not checkpoint.exists()
    moments = random.Random(0)
    for _ in range(5):
        known = checkpoint.read_bytes() if checkpoint.exists() else b""
        process = subprocess.Popen(command, cwd=clone, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        while not checkpoint.exists() or checkpoint.read_bytes() == known:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert outputs[0].read_bytes() == expected[0]  # the earlier one
    outputs[0].unlink()
    assert run(clone, *command).returncode == 0
    assert [output.read_bytes() for output in outputs] == expected
    assert not checkpoint.exists()
