"""Read from TF_CONFIG which processes train together, and wait for them.

This doesn't import TensorFlow, which takes seconds, so a wrong TF_CONFIG is reported early.
"""

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from mnist_cnn.errors import InputError

WAIT_SECONDS = 300
MAX_WORKERS = 256  # the most shards

EXAMPLE = (
    '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'
)


class Cluster(NamedTuple):
    """The `addresses` "HOST:PORT" of all workers, the chief's first, and the number of this
    `worker`. A process that trains alone has no addresses."""

    addresses: tuple[str, ...] = ()
    worker: int = 0

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes the outputs and reports progress."""
        return self.worker == 0

    def name(self, worker: int) -> str:
        return f"worker {worker} ({self.addresses[worker]})"


class _Section(BaseModel):
    model_config = ConfigDict(strict=True)


# A name, an IPv4 address, or an IPv6 address in brackets
_HOST = r"([0-9A-Za-z_.-]+|\[[0-9A-Za-z_.:%-]+\])"
_Address = Annotated[str, StringConstraints(pattern=rf"^{_HOST}:[0-9]{{1,5}}$")]


class _Workers(_Section):
    chief: list[_Address] = Field(default=[], max_length=1)
    worker: list[_Address] = Field(default=[], max_length=MAX_WORKERS)


class _Task(_Section):
    type: Literal["chief", "worker"]
    index: int = Field(ge=0)


class _Config(_Section):
    cluster: _Workers
    task: _Task


def read_cluster() -> Cluster:
    """Read the cluster from the environment variable TF_CONFIG
    (https://www.tensorflow.org/guide/distributed_training#TF_CONFIG). If it isn't set, the cluster
    has no addresses.

    Raises:
        InputError: TF_CONFIG isn't JSON, keys are missing or of the wrong type, there are more
            than MAX_WORKERS, an address isn't HOST:PORT or is repeated, or the task isn't in the
            cluster.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return Cluster()
    try:
        config = _Config.model_validate_json(text)
        chief, worker = config.cluster.chief, config.cluster.worker
        addresses = (*chief, *worker)
        if len(set(addresses)) < len(addresses):
            raise ValueError("cluster: an address is repeated")
        for address in addresses:
            if not 0 < _split(address)[1] < 65536:
                raise ValueError(f"cluster: {address} has no port from 1 to 65535")
        if config.task.index >= len(getattr(config.cluster, config.task.type)):
            raise ValueError(f"task: there is no {config.task.type} {config.task.index}")
    except ValidationError as error:
        problems = [": ".join([*map(str, e["loc"]), e["msg"]]) for e in error.errors()[:3]]
        raise InputError(f"TF_CONFIG: {'; '.join(problems)}: expected {EXAMPLE}") from error
    except ValueError as error:
        raise InputError(f"TF_CONFIG: {error}: expected {EXAMPLE}") from error
    return Cluster(addresses, config.task.index + len(chief) * (config.task.type == "worker"))


def wait_for_workers(cluster: Cluster) -> None:
    """Listen on this worker's port until all other workers listen on theirs.

    Raises:
        InputError: the port is taken, a worker didn't appear within WAIT_SECONDS, or its address
            leads to this worker.
    """
    missing = [i for i in range(len(cluster.addresses)) if i != cluster.worker]
    deadline = time.monotonic() + WAIT_SECONDS
    with _listen(cluster):
        missing = [i for i in missing if not _is_listening(cluster, i)]
        if missing:
            print(f"waiting for {', '.join(map(cluster.name, missing))}", flush=True)
        while missing:
            if time.monotonic() > deadline:
                names = ", ".join(map(cluster.name, missing))
                raise InputError(
                    f"{names} did not connect within {WAIT_SECONDS} seconds: start all workers, "
                    "and check that each can reach the others"
                )
            time.sleep(0.2)
            missing = [i for i in missing if not _is_listening(cluster, i)]


def _listen(cluster: Cluster) -> socket.socket:
    """Listen on this worker's port, on all IPv4 addresses of this machine and, if the system has
    IPv6, on all IPv6 addresses."""
    _, port = _split(cluster.addresses[cluster.worker])
    backlog = len(cluster.addresses)
    try:
        if not socket.has_dualstack_ipv6():
            return socket.create_server(("", port), backlog=backlog)
        return socket.create_server(
            ("", port), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True
        )
    except OSError as error:
        raise InputError(
            f"{cluster.name(cluster.worker)} cannot open its port ({os.strerror(error.errno or 0)})"
            ": expected a free port; stop its program, or set another in TF_CONFIG on all workers"
        ) from error


def _is_listening(cluster: Cluster, worker: int) -> bool:
    host, port = _split(cluster.addresses[worker])
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            here, there = connection.getsockname()[0], connection.getpeername()[0]
    except (OSError, UnicodeError):  # UnicodeError: an invalid host name
        return False
    if here == there and port == _split(cluster.addresses[cluster.worker])[1]:
        raise InputError(
            f"{cluster.name(worker)} has the address of {cluster.name(cluster.worker)}: expected "
            "different machines or ports; correct TF_CONFIG on all workers"
        )
    return True


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


@contextmanager
def worker_folder(cluster: Cluster) -> Iterator[Path]:
    """Yield the folder this worker writes to: the current one for the chief, a temporary one for
    the others."""
    if cluster.is_chief:
        yield Path()
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
