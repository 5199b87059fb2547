"""Several workers train the same network as one process; if one is lost, all exit with one line."""

import ctypes
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mnist_cnn.data.arrays import Arrays, read_arrays
from mnist_cnn.errors import InputError
from mnist_cnn.model.backend import keras, set_seed, tf
from mnist_cnn.model.formats.keras import load_network
from mnist_cnn.model.network import build_network
from mnist_cnn.training import calibration, distribution
from mnist_cnn.training.checkpoint import Checkpoint, History
from mnist_cnn.training.cluster import Cluster
from mnist_cnn.training.distribution import create_strategy
from mnist_cnn.training.fit import fit
from tests.helpers import PARAMS, set_params
from tests.training.processes import (
    CHECKPOINT,
    OUTPUTS,
    Training,
    free_addresses,
    machine,
    outputs,
    tf_config,
)

LOST = (
    "error: a worker was lost: it, its machine or the network failed; start all workers again to "
    "resume from the last completed epoch\n"
)
LOCALHOST_IPV6 = "[::1]" if socket.has_dualstack_ipv6() else "127.0.0.1"


def machines(pipeline: Path, folder: Path, count: int, **changes: dict[str, object]) -> list[Path]:
    return [machine(pipeline, folder / f"machine {i}", **changes) for i in range(count)]


def train_together(
    folders: list[Path], addresses: Sequence[str], *prepare: Callable[[], object]
) -> list[tuple[int, str, str]]:
    """Train with one worker per folder, each after its function in `prepare`, if any. Return exit
    codes, stdout and stderr."""
    functions = prepare or [None] * len(folders)
    trainings = [
        Training(folder, function, TF_CONFIG=tf_config(addresses, i))
        for i, (folder, function) in enumerate(zip(folders, functions, strict=True))
    ]
    return [training.finish() for training in trainings]


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def after_epoch_1(action: Callable[[], object] = lambda: None) -> None:
    save = Checkpoint.save

    def save_and_act(self: Checkpoint, variables: Sequence[object], history: History) -> None:
        save(self, variables, history)
        action()

    Checkpoint.save = save_and_act  # type: ignore[method-assign]


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def terminate_after_epoch_1() -> None:
    after_epoch_1(terminate)


def terminate_after_the_last_epoch() -> None:
    calibration.calibrate = lambda *_: terminate()  # type: ignore[assignment]


def test_workers_killed_at_any_point_resume_to_the_bytes_of_one_process(
    small_pipeline: Path, tmp_path: Path
) -> None:
    chief, worker = machines(small_pipeline, tmp_path, 2)
    before = files(worker)
    addresses = free_addresses(2)
    lost, killed = train_together(
        [chief, worker], addresses, after_epoch_1, terminate_after_epoch_1
    )
    assert (lost[0], lost[2]) == (1, LOST)
    assert killed[0] == -signal.SIGTERM

    end = terminate_after_the_last_epoch
    killed, _ = train_together([chief, worker], addresses, end, end)
    assert killed[0] == -signal.SIGTERM
    lines = killed[1].splitlines()
    assert lines[-2] == "resumed after epoch 1"
    assert lines[-1].startswith("epoch 2 ")

    # No epoch is left to train. The addresses are IPv6 if available.
    shutil.rmtree(chief / "metrics")  # as DVC does before it runs a stage
    addresses = free_addresses(2, LOCALHOST_IPV6)
    first, second = train_together([chief, worker], addresses)
    assert (first[0], first[2]) == (second[0], second[2]) == (0, "")
    assert first[1].splitlines()[-1] == "resumed after epoch 2"
    assert "epoch" not in second[1]
    assert outputs(chief) == outputs(small_pipeline)
    assert not (chief / CHECKPOINT).exists()
    assert files(worker) == before


def enter(namespace: str) -> None:
    """Move this process to a network namespace, as `ip netns exec` does."""
    with Path("/var/run/netns", namespace).open() as file:
        assert ctypes.CDLL(None).setns(file.fileno(), 0) == 0


def enter_and_unplug_after_epoch_1(namespace: str) -> None:
    enter(namespace)
    unplug = ["ip", "link", "set", "cable", "down"]
    after_epoch_1(partial(subprocess.run, unplug, check=True))


@pytest.fixture
def namespaces() -> Iterator[list[str]]:
    """Two network namespaces, 10.77.0.1 and 10.77.0.2, connected by a virtual cable."""
    names = [f"mnist{random.randrange(10**6)}" for _ in range(2)]
    commands = [["ip", "netns", "add", name] for name in names]
    commands.append(["ip", "link", "add", "cable", "netns", names[0], "type", "veth"])
    commands[-1] += ["peer", "name", "cable", "netns", names[1]]
    for i, name in enumerate(names, start=1):
        ip = ["ip", "-n", name]
        commands.append([*ip, "address", "add", f"10.77.0.{i}/24", "dev", "cable"])
        commands += [[*ip, "link", "set", device, "up"] for device in ("lo", "cable")]
    try:
        for command in commands:
            if not shutil.which("ip") or subprocess.run(command, capture_output=True).returncode:
                pytest.skip("needs Linux, iproute2 and root")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def test_machines_that_are_cut_off_end_and_resume_when_they_are_back(
    small_pipeline: Path, tmp_path: Path, namespaces: list[str]
) -> None:
    folders = machines(small_pipeline, tmp_path, 2)
    addresses = ["10.77.0.1:2222", "10.77.0.2:2222"]
    chief, worker = namespaces
    enter_chief, enter_worker = partial(enter, chief), partial(enter, worker)
    unplug = partial(enter_and_unplug_after_epoch_1, worker)
    for code, _, errors in train_together(folders, addresses, enter_chief, unplug):
        assert (code, errors) == (1, LOST)
    subprocess.run(["ip", "-n", worker, "link", "set", "cable", "up"], check=True)
    for code, _, errors in train_together(folders, addresses, enter_chief, enter_worker):
        assert (code, errors) == (0, "")
    assert outputs(folders[0]) == outputs(small_pipeline)


def print_weights_instead_of_calibration() -> None:
    def print_weights(network: keras.Sequential, _: Arrays) -> float:
        weights = b"".join(weights.tobytes() for weights in network.get_weights())
        print(hashlib.sha256(weights).hexdigest())
        return 1.0

    calibration.calibrate = print_weights  # type: ignore[assignment]


def test_three_workers_train_the_network_of_one(small_pipeline: Path, tmp_path: Path) -> None:
    """Each worker keeps its own moving averages, so theirs differ slightly from one process's."""
    model: dict[str, object] = {"batch_normalization": True}
    changes: dict[str, object] = {"shards": 3, "batch_size": 33, "learning_rate": 0.001}
    folders = machines(small_pipeline, tmp_path, 3, model=model, train=changes)
    prepare = 3 * [print_weights_instead_of_calibration]
    results = train_together(folders, free_addresses(3), *prepare)
    assert [(code, errors) for code, _, errors in results] == 3 * [(0, "")]
    assert len({printed.splitlines()[-1] for _, printed, _ in results}) == 1

    train, validation = (
        read_arrays(folders[0] / f"data/prepared/{name}.npz") for name in ("train", "validation")
    )
    set_seed(PARAMS.train.seed)
    one = build_network(PARAMS.model.model_copy(update=model), (28, 28, 1), 10)
    list(fit(one, train, validation, PARAMS.train.model_copy(update={"epochs": 2} | changes)))
    three = load_network(folders[0] / OUTPUTS[0])
    for theirs, ours in zip(three.weights, one.weights, strict=True):
        tolerance = 0.2 if "moving" in ours.path else 0.02
        scale = np.abs(ours.numpy()).max()
        np.testing.assert_allclose(theirs.numpy(), ours.numpy(), rtol=0, atol=tolerance * scale)


def take_cpus_for_gpus() -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
    list_logical_devices = tf.config.list_logical_devices
    tf.config.list_logical_devices = lambda _: list_logical_devices("CPU")

    def create_and_check(cluster: Cluster, key: str) -> tf.distribute.Strategy:
        strategy = create_strategy(cluster, key)
        assert strategy.num_replicas_in_sync == 2
        return strategy

    distribution.create_strategy = create_and_check


def test_two_devices_of_one_process_give_the_bytes_of_one(
    small_pipeline: Path, tmp_path: Path
) -> None:
    """With CPU devices in place of GPUs."""
    folder = machine(small_pipeline, tmp_path / "machine")
    code, _, errors = Training(folder, take_cpus_for_gpus).finish()
    assert (code, errors) == (0, "")
    assert outputs(folder) == outputs(small_pipeline)


@pytest.mark.parametrize(("requested", "told"), [("-1", False), ("", False), ("0", True)])
def test_a_requested_gpu_that_is_missing_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], requested: str, told: bool
) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", requested)
    create_strategy(Cluster(), "")
    expected = "CUDA_VISIBLE_DEVICES=0: TensorFlow finds no GPU and uses the CPU\n"
    assert capsys.readouterr().out == (expected if told else "")


def test_workers_that_would_train_something_else_are_named(
    small_pipeline: Path, tmp_path: Path
) -> None:
    folders = machines(small_pipeline, tmp_path, 2)
    set_params(folders[1], train={"learning_rate": 0.001})
    for code, _, errors in train_together(folders, free_addresses(2)):
        assert code == 1
        assert errors.startswith("error: worker 1 (127.0.0.1:")
        assert "would not train the same network as worker 0 (127.0.0.1:" in errors
        assert errors.count("\n") == 1


def connect_for_3_seconds() -> None:
    distribution.CONNECT_SECONDS = 3


def test_another_program_in_place_of_a_worker_does_not_block_the_others(
    small_pipeline: Path, tmp_path: Path
) -> None:
    folder = machine(small_pipeline, tmp_path / "machine")
    addresses = free_addresses(2)
    with socket.create_server(("127.0.0.1", int(addresses[1].split(":")[1]))):
        training = Training(folder, connect_for_3_seconds, TF_CONFIG=tf_config(addresses, 0))
        code, _, errors = training.finish()
    assert code == -signal.SIGKILL
    assert errors == (
        "error: the workers did not connect within 3 seconds: one was lost, or another program "
        "uses its address; start all workers again\n"
    )


def test_shards_that_cannot_be_divided_among_workers_are_refused(arrays: Arrays) -> None:
    params = PARAMS.train.model_copy(update={"batch_size": 4, "shards": 4})
    network = build_network(PARAMS.model, (28, 28, 1), 10)
    three = SimpleNamespace(num_replicas_in_sync=3)
    with pytest.raises(InputError, match="is 4: expected a multiple of 3, the number of workers"):
        next(fit(network, arrays, arrays, params, strategy=three))
