"""TF_CONFIG is checked, and workers wait for each other."""

import json
import socket
import threading
import time

import pytest

from mnist_cnn.errors import InputError
from mnist_cnn.training import cluster
from mnist_cnn.training.cluster import Cluster, read_cluster, wait_for_workers
from tests.training.processes import free_addresses, tf_config

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")


def test_the_cluster_is_read_from_tf_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert read_cluster() == Cluster((), 0)
    assert read_cluster().is_chief
    monkeypatch.setenv("TF_CONFIG", tf_config(["a:1", "[::1]:2"], 1))
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
        ("{", "Invalid JSON: EOF while parsing"),
        ("[" * 100_000, "Invalid JSON: recursion limit exceeded"),
        ("\udcff", "unable to parse raw data as a unicode string"),
        (tf_config(["a:1"], 0).replace("0", "NaN"), "task: index: Input should be a valid"),
        (tf_config(["a:1"], 0).replace("0", "9" * 100_000), "Invalid JSON: number out of range"),
        (tf_config(["\ud800:1"], 0), "Invalid JSON: unexpected end of hex escape"),
        (tf_config([f"a:{i}" for i in range(1, 10_000)], 0), "at most 256 items"),
        ("[]", "Input should be an object"),
        ("{}", "cluster: Field required; task: Field required"),
        (tf_config(["a:1", "b"], 0), "cluster: worker: 1: String should match"),
        (tf_config(["a:1", "b\0:1"], 0), "cluster: worker: 1: String should match"),
        (tf_config(["a:1", "\x1b[31m:1"], 0), "cluster: worker: 1: String should match"),
        (tf_config(["a:1", "a:1"], 0), "an address is repeated"),
        (tf_config(["a:65536"], 0), "a:65536 has no port"),
        (tf_config(["a:1"], 1), "there is no worker 1"),
        (tf_config(["a:1"], -1), "task: index: Input should be greater than or equal to 0"),
        (tf_config(["a:1"], 0).replace('"type": "worker"', '"type": "ps"'), "task: type: Input"),
    ],
)
def test_a_wrong_tf_config_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(
        InputError, match=rf"^TF_CONFIG: .*{problem}.*: expected {{\"cluster\""
    ) as e:
        read_cluster()
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("family", "host"),
    [
        (socket.AF_INET, "127.0.0.1"),
        pytest.param(socket.AF_INET6, "[::1]", marks=needs_ipv6),
    ],
)
def test_a_worker_that_starts_later_is_awaited(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    family: socket.AddressFamily,
    host: str,
) -> None:
    monkeypatch.setattr(cluster, "WAIT_SECONDS", 20)
    addresses = free_addresses(2, host)
    waiting = threading.Thread(target=wait_for_workers, args=[Cluster(addresses, 0)], daemon=True)
    waiting.start()
    time.sleep(0.5)
    assert waiting.is_alive()
    wait_for_workers(Cluster(addresses, 1))  # finds the waiting worker
    port = int(addresses[1].rpartition(":")[2])
    with socket.create_server((host.strip("[]"), port), family=family):
        waiting.join(5)
    assert not waiting.is_alive()
    assert capsys.readouterr().out == f"waiting for worker 1 ({addresses[1]})\n"


def test_a_missing_worker_is_named_by_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "WAIT_SECONDS", 2)
    addresses = free_addresses(3)
    errors = []

    def wait(worker: int) -> None:
        with pytest.raises(InputError) as error:
            wait_for_workers(Cluster(addresses, worker))
        errors.append(str(error.value))

    threads = [threading.Thread(target=wait, args=[worker]) for worker in (0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == 2 * [
        f"worker 1 ({addresses[1]}) did not connect within 2 seconds: "
        "start all workers, and check that each can reach the others"
    ]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2
    assert all(f"worker 1 ({addresses[1]})" in line for line in printed)


@pytest.mark.parametrize(
    ("family", "host"),
    [
        (socket.AF_INET, ""),
        (socket.AF_INET, "127.0.0.1"),
        pytest.param(socket.AF_INET6, "::", marks=needs_ipv6),
        pytest.param(socket.AF_INET6, "::1", marks=needs_ipv6),
    ],
)
def test_a_port_that_is_taken_is_named(family: socket.AddressFamily, host: str) -> None:
    addresses = free_addresses(2)
    port = int(addresses[0].split(":")[1])
    expected = rf"worker 0 \({addresses[0]}\) cannot open its port \(Address already in use\)"
    with (
        socket.create_server((host, port), family=family),
        pytest.raises(InputError, match=expected),
    ):
        wait_for_workers(Cluster(addresses, 0))


def test_two_addresses_of_one_worker_are_refused() -> None:
    (address,) = free_addresses(1)
    other = address.replace("127.0.0.1", "localhost")
    expected = (
        rf"worker 1 \({other}\) has the address of worker 0 \({address}\): expected different"
    )
    with pytest.raises(InputError, match=expected):
        wait_for_workers(Cluster((address, other), 0))
