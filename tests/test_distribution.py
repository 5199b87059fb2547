"""Several workers train as one does; one that is lost or never comes ends them all, with a line."""

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mnist_cnn import distribution
from mnist_cnn.arrays import Arrays, read_arrays, write_arrays
from mnist_cnn.distribution import Cluster, read_cluster, wait_for_others
from mnist_cnn.errors import InputError
from mnist_cnn.network import build_network, load_network, make_deterministic
from mnist_cnn.training import calibrate, fit
from tests.conftest import ENVIRONMENT, PARAMS, set_params, succeed

TRAIN = (sys.executable, "-m", "stages.train")
OUTPUTS = ("models/model.keras", "metrics/training.csv", "metrics/calibration.json")
LOST = (
    "error: a worker was lost: it failed, or its machine or the network did; start all workers "
    "again, and the training goes on after its last whole epoch\n"
)


def config(addresses: list[str], index: int) -> str:
    return json.dumps(
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    )


def free_addresses(count: int) -> list[str]:
    """Not of the ports that the system gives to connections."""
    addresses: list[str] = []
    while len(addresses) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                addresses.append(f"127.0.0.1:{port}")
    return addresses


def start(
    folder: Path, addresses: list[str], index: int, command: tuple[str, ...] = TRAIN
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=folder,
        env=ENVIRONMENT | {"TF_CONFIG": config(addresses, index)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train_in(folders: list[Path]) -> list[subprocess.Popen[str]]:
    addresses = free_addresses(len(folders))
    return [start(folder, addresses, i) for i, folder in enumerate(folders)]


def ends(process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process that must end by itself."""
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        pytest.fail(f"hangs: {output}{errors}")
    return process.returncode, output, errors


def await_checkpoint(folder: Path, processes: list[subprocess.Popen[str]]) -> None:
    while not (folder / "models/checkpoint.npz").exists():
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def host(small_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a machine needs to train: 596 images and 500 for validation, 12 epochs."""
    host = tmp_path_factory.mktemp("host") / "clone"
    unneeded = shutil.ignore_patterns(".*", "models", "metrics", "__pycache__")
    shutil.copytree(small_pipeline, host, ignore=unneeded)
    set_params(host, train={"epochs": 12})
    validation = host / "data/prepared/validation.npz"
    images, labels, _ = read_arrays(validation)
    write_arrays(validation, [images[:500]], labels[:500])
    return host


def copies(host: Path, folder: Path, count: int) -> list[Path]:
    return [shutil.copytree(host, folder / f"host {i}") for i in range(count)]


@pytest.fixture(scope="module")
def expected(host: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The outputs of one process."""
    alone = shutil.copytree(host, tmp_path_factory.mktemp("alone") / "clone")
    succeed(alone, *TRAIN)
    return [(alone / output).read_bytes() for output in OUTPUTS]


def test_a_killed_worker_ends_the_run_and_the_next_one_gives_the_bytes_of_one_process(
    host: Path, tmp_path: Path, expected: list[bytes]
) -> None:
    chief, other = copies(host, tmp_path, 2)
    before = files(other)
    processes = train_in([chief, other])
    await_checkpoint(chief, processes)
    processes[1].send_signal(signal.SIGTERM)
    code, _, errors = ends(processes[0])
    assert (code, errors) == (1, LOST)
    assert ends(processes[1])[0] == -signal.SIGTERM

    epochs = len(np.load(chief / "models/checkpoint.npz")["epochs"].item().split("},"))
    assert epochs < 12
    results = [ends(process) for process in train_in([chief, other])]
    assert [code for code, _, _ in results] == [0, 0]
    assert [(chief / output).read_bytes() for output in OUTPUTS] == expected
    assert results[0][1].count("epoch ") == 12
    assert "epoch " not in results[1][1]
    assert files(other) == before


def in_namespace(name: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", name)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces, 10.77.0.1 and 10.77.0.2, with a cable between them."""
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


def test_hosts_that_are_cut_off_end_and_go_on_when_they_are_back(
    host: Path, tmp_path: Path, expected: list[bytes], hosts: list[str]
) -> None:
    folders = copies(host, tmp_path, 2)
    addresses = ["10.77.0.1:2222", "10.77.0.2:2222"]

    def train() -> list[subprocess.Popen[str]]:
        return [
            start(folder, addresses, i, (*in_namespace(name), *TRAIN))
            for i, (folder, name) in enumerate(zip(folders, hosts, strict=True))
        ]

    processes = train()
    await_checkpoint(folders[0], processes)
    subprocess.run(["ip", "-n", hosts[1], "link", "set", "cable", "down"], check=True)
    for process in processes:
        code, _, errors = ends(process)
        assert (code, errors) == (1, LOST)
    subprocess.run(["ip", "-n", hosts[1], "link", "set", "cable", "up"], check=True)
    assert [ends(process)[0] for process in train()] == [0, 0]
    assert [(folders[0] / output).read_bytes() for output in OUTPUTS] == expected


def test_three_workers_train_the_network_of_one(host: Path, tmp_path: Path) -> None:
    """Moving averages, of which each worker keeps its own, are not quite those of one process."""
    folders = copies(host, tmp_path, 3)
    model: dict[str, object] = {"batch_normalization": True}
    changes: dict[str, object] = {
        "shards": 3,
        "batch_size": 33,
        "epochs": 5,
        "learning_rate": 0.001,
    }
    for folder in folders:
        set_params(folder, model=model, train=changes)
    for code, _, errors in map(ends, train_in(folders)):
        assert (code, errors) == (0, "")

    train, validation = (
        read_arrays(host / f"data/prepared/{name}.npz") for name in ("train", "validation")
    )
    make_deterministic(PARAMS.train.seed)
    one = build_network(PARAMS.model.model_copy(update=model), (28, 28, 1), 10)
    list(fit(one, train, validation, PARAMS.train.model_copy(update=changes)))
    calibrate(one, validation)
    three = load_network(folders[0] / OUTPUTS[0])
    for theirs, ours in zip(three.weights, one.weights, strict=True):
        tolerance = 0.2 if "moving" in ours.path else 0.02
        scale = np.abs(ours.numpy()).max()
        np.testing.assert_allclose(theirs.numpy(), ours.numpy(), rtol=0, atol=tolerance * scale)


AS_GPUS = """
import mnist_cnn.network
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
list_logical_devices = tf.config.list_logical_devices
tf.config.list_logical_devices = lambda kind: list_logical_devices("CPU")

from stages import train

join = train.join


def join_as_gpus(*arguments):
    strategy = join(*arguments)
    assert strategy.num_replicas_in_sync == 2
    return strategy


train.join = join_as_gpus
train.main()
"""


def test_two_devices_of_one_process_give_the_bytes_of_one(
    host: Path, tmp_path: Path, expected: list[bytes]
) -> None:
    """CPU devices, in place of GPUs."""
    (folder,) = copies(host, tmp_path, 1)
    succeed(folder, sys.executable, "-c", AS_GPUS)
    assert [(folder / output).read_bytes() for output in OUTPUTS] == expected


def test_workers_that_would_train_something_else_are_named(host: Path, tmp_path: Path) -> None:
    folders = copies(host, tmp_path, 2)
    set_params(folders[1], train={"learning_rate": 0.001})
    for code, _, errors in map(ends, train_in(folders)):
        assert code == 1
        assert errors.startswith("error: worker 1 (127.0.0.1:")
        assert "do not train the same: expected the same commit, params.yaml" in errors
        assert errors.count("\n") == 1


def patient(wait: int, connect: int) -> tuple[str, ...]:
    code = "import mnist_cnn.distribution as d; from stages.train import main; "
    code += f"d.WAIT_SECONDS, d.CONNECT_SECONDS = {wait}, {connect}; main()"
    return (sys.executable, "-c", code)


def test_a_worker_that_never_comes_is_named_by_all(host: Path) -> None:
    addresses = free_addresses(3)
    processes = [start(host, addresses, i, patient(wait=10, connect=60)) for i in (0, 2)]
    for process in processes:
        code, output, errors = ends(process)
        assert (code, errors) == (
            1,
            f"error: worker 1 ({addresses[1]}) did not come within 10 seconds: "
            "start all workers, each able to reach the others' addresses\n",
        )
        assert f"worker 1 ({addresses[1]})" in output


def test_what_answers_in_the_place_of_a_worker_does_not_hold_up_the_others(host: Path) -> None:
    addresses = free_addresses(2)
    with socket.create_server(("127.0.0.1", int(addresses[1].split(":")[1]))):
        code, _, errors = ends(start(host, addresses, 0, patient(wait=10, connect=3)))
    assert code == 1
    assert "Timeout" in errors


def test_a_worker_that_comes_later_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distribution, "WAIT_SECONDS", 20)
    addresses = tuple(free_addresses(2))
    waiting = threading.Thread(target=wait_for_others, args=[Cluster(addresses, 0)], daemon=True)
    waiting.start()
    time.sleep(0.5)
    assert waiting.is_alive()
    wait_for_others(Cluster(addresses, 1))  # finds the one that waits
    with socket.create_server(("127.0.0.1", int(addresses[1].split(":")[1]))):
        waiting.join(5)
    assert not waiting.is_alive()
    assert capsys.readouterr().out == f"waiting for worker 1 ({addresses[1]})\n"


def test_a_port_that_is_taken_is_named() -> None:
    addresses = tuple(free_addresses(2))
    with socket.create_server(("", int(addresses[0].split(":")[1]))):
        expected = rf"worker 0 \({addresses[0]}\) cannot open its port \(Address already in use\)"
        with pytest.raises(InputError, match=expected):
            wait_for_others(Cluster(addresses, 0))


def test_shards_that_the_workers_cannot_share_are_refused(arrays: Arrays) -> None:
    params = PARAMS.train.model_copy(update={"batch_size": 4, "shards": 4})
    network = build_network(PARAMS.model, (28, 28, 1), 10)
    three = SimpleNamespace(num_replicas_in_sync=3)
    with pytest.raises(InputError, match="is 4: expected a multiple of 3, the number of workers"):
        list(fit(network, arrays, arrays, params, strategy=three))


def test_the_cluster_is_read_from_tf_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert read_cluster() == Cluster((), 0)
    assert read_cluster().is_chief
    monkeypatch.setenv("TF_CONFIG", config(["a:1", "[::1]:2"], 1))
    assert read_cluster() == Cluster(("a:1", "[::1]:2"), 1)
    with_chief = {"cluster": {"chief": ["c:1"], "worker": ["a:1", "b:1"]}, "environment": "cloud"}
    for kind, index, number in (("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)):
        text = json.dumps(with_chief | {"task": {"type": kind, "index": index}})
        monkeypatch.setenv("TF_CONFIG", text)
        assert read_cluster() == Cluster(("c:1", "a:1", "b:1"), number)
        assert read_cluster().is_chief == (number == 0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "Expecting property name"),
        ("[]", "Input should be a valid dictionary"),
        ("{}", "cluster: Field required; task: Field required"),
        (config(["a:1", "b"], 0), r"cluster.worker.1: String should match"),
        (config(["a:1", "a:1"], 0), "an address stands twice"),
        (config(["a:65536"], 0), "a:65536 has no port"),
        (config(["a:1"], 1), "there is no worker 1"),
        (config(["a:1"], -1), "task.index: Input should be greater than or equal to 0"),
        (config(["a:1"], 0).replace('"type": "worker"', '"type": "ps"'), "task.type: Input should"),
    ],
)
def test_a_wrong_tf_config_is_refused_with_a_line(
    monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(
        InputError, match=rf"^TF_CONFIG: .*{problem}.*: expected {{\"cluster\""
    ) as e:
        read_cluster()
    assert "\n" not in str(e.value)
