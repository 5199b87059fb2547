"""Interrupted training resumes and gives the same bytes; a different run starts from scratch."""

import random
import signal
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mnist_cnn.data.arrays import Arrays
from mnist_cnn.model.backend import keras, set_seed
from mnist_cnn.model.network import build_network
from mnist_cnn.params import TrainParams
from mnist_cnn.training.checkpoint import Checkpoint, stage_key
from mnist_cnn.training.fit import fit
from tests.helpers import PARAMS, set_params
from tests.training.processes import CHECKPOINT, Training, machine, outputs

TRAIN = TrainParams.model_validate(PARAMS.train.model_dump() | {"batch_size": 4, "epochs": 4})


def new_network() -> keras.Sequential:
    set_seed(TRAIN.seed)
    return build_network(PARAMS.model, (28, 28, 1), 10)


def test_fit_resumes_from_the_last_completed_epoch(tmp_path: Path, arrays: Arrays) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", "key")
    uninterrupted, interrupted, resumed = new_network(), new_network(), new_network()
    epochs = list(fit(uninterrupted, arrays, arrays, TRAIN))
    assert list(islice(fit(interrupted, arrays, arrays, TRAIN, checkpoint), 2)) == epochs[:2]
    assert checkpoint.history() == epochs[:2]
    assert list(fit(resumed, arrays, arrays, TRAIN, checkpoint)) == epochs[2:]
    assert checkpoint.history() == epochs
    for expected, found in zip(uninterrupted.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("key", "damage"), [("another", lambda _: None), ("key", cut), ("key", Path.unlink)]
)
def test_an_unusable_checkpoint_changes_nothing(
    tmp_path: Path, key: str, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "checkpoint.npz"
    network = new_network()
    Checkpoint(path, "key").save(network.variables, [{"epoch": 1}])
    damage(path)
    network.set_weights([weights + 1 for weights in network.get_weights()])
    before = network.get_weights()
    assert Checkpoint(path, key).restore(network.variables) == []
    assert Checkpoint(path, key).history() == []
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_whatever_makes_dvc_train_again_changes_the_key(
    small_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = machine(small_pipeline, tmp_path / "machine")
    monkeypatch.chdir(folder)
    keys = [stage_key("train"), stage_key("train")]
    set_params(folder, evaluate={"calibration_bins": 7})
    (folder / "mnist_cnn/gate.py").write_text("#")
    (folder / "mnist_cnn/model/__pycache__").mkdir()
    (folder / "mnist_cnn/model/__pycache__/network.pyc").write_text("#")
    keys.append(stage_key("train"))
    assert len(set(keys)) == 1
    set_params(folder, train={"learning_rate": 0.001})
    keys.append(stage_key("train"))
    for path in ("mnist_cnn/model/network.py", "data/prepared/train.npz", "requirements.txt"):
        (folder / path).write_bytes((folder / path).read_bytes() + b"#")
        keys.append(stage_key("train"))
    (folder / "mnist_cnn/model/new.py").touch()
    keys.append(stage_key("train"))
    assert len(set(keys)) == 6


def test_a_training_killed_three_times_gives_the_same_bytes(
    small_pipeline: Path, tmp_path: Path
) -> None:
    small: dict[str, object] = {"convolutions": [{"filters": 4, "kernel_size": 5, "strides": 2}]}
    folder = machine(
        small_pipeline, tmp_path / "machine", model=small, train={"epochs": 20, "shards": 1}
    )
    checkpoint = folder / CHECKPOINT

    def await_epoch(training: Training) -> None:
        known = checkpoint.read_bytes() if checkpoint.exists() else b""
        while not checkpoint.exists() or checkpoint.read_bytes() == known:
            assert training.process.is_alive(), training.finish()
            time.sleep(0.01)

    training = Training(folder)
    await_epoch(training)
    start = time.perf_counter()
    assert training.finish()[0] == 0
    seconds_per_epoch = (time.perf_counter() - start) / 20
    expected = outputs(folder)
    assert not checkpoint.exists()

    moments = random.Random(0)
    for _ in range(3):
        training = Training(folder)
        await_epoch(training)
        time.sleep(moments.uniform(0, seconds_per_epoch))
        training.process.kill()
        assert training.finish()[0] == -signal.SIGKILL
    assert outputs(folder)[0] == expected[0]  # still the model of the first run
    for name in ("models", "metrics"):
        for output in (folder / name).iterdir():
            if output != checkpoint:
                output.unlink()
    code, printed, _ = Training(folder).finish()
    assert code == 0
    assert outputs(folder) == expected
    assert printed.startswith("resumed after epoch ")
    first = int(printed.split()[3]) + 1
    assert [line.split()[1] for line in printed.splitlines()[1:]] == [*map(str, range(first, 21))]
    assert not checkpoint.exists()
