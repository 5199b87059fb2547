"""Machines or GPUs that train one network together: who they are, how they meet and part."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from mnist_cnn.errors import InputError

if TYPE_CHECKING:  # it takes seconds to import, and what is wrong in TF_CONFIG shows before
    import tensorflow as tf

WAIT_SECONDS = 300
CONNECT_SECONDS = 60

EXAMPLE = (
    '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'
)


class Cluster(NamedTuple):
    """The `addresses` "HOST:PORT" of all workers, the chief's first, and which of them this process
    is; a process of its own has no address."""

    addresses: tuple[str, ...] = ()
    worker: int = 0

    @property
    def is_chief(self) -> bool:
        """Whether this is the one worker that writes outputs and reports."""
        return self.worker == 0

    def name(self, worker: int) -> str:
        return f"worker {worker} ({self.addresses[worker]})"


class _Section(BaseModel):
    model_config = ConfigDict(strict=True)


_Address = Annotated[str, StringConstraints(pattern=r"^.+:[0-9]{1,5}$")]


class _Workers(_Section):
    chief: list[_Address] = Field(default=[], max_length=1)
    worker: list[_Address] = []


class _Task(_Section):
    type: Literal["chief", "worker"]
    index: int = Field(ge=0)


class _Config(_Section):
    cluster: _Workers
    task: _Task


def read_cluster() -> Cluster:
    """The cluster that the environment variable TF_CONFIG describes
    (https://www.tensorflow.org/guide/distributed_training#TF_CONFIG); without it, one of no
    addresses.

    Raises:
        InputError: TF_CONFIG is no JSON, keys are missing or of a wrong type, an address has no
            port or stands twice, or the task is not in the cluster.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return Cluster()
    try:
        config = _Config.model_validate(json.loads(text))
        chief, worker = config.cluster.chief, config.cluster.worker
        addresses = (*chief, *worker)
        if len(set(addresses)) < len(addresses):
            raise ValueError("cluster: an address stands twice")
        for address in addresses:
            if not 0 < int(address.rpartition(":")[2]) < 65536:
                raise ValueError(f"cluster: {address} has no port from 1 to 65535")
        if config.task.index >= len(getattr(config.cluster, config.task.type)):
            raise ValueError(f"task: there is no {config.task.type} {config.task.index}")
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError(f"TF_CONFIG: {'; '.join(problems)}: expected {EXAMPLE}") from error
    except ValueError as error:
        raise InputError(f"TF_CONFIG: {error}: expected {EXAMPLE}") from error
    return Cluster(addresses, config.task.index + len(chief) * (config.task.type == "worker"))


def join(cluster: Cluster, key: str) -> tf.distribute.Strategy:
    """Wait for the other workers, and return the strategy by which they compute together; without
    others, the one for all GPUs that TensorFlow sees, or its default one where these are less than
    two. To be called before anything else of TensorFlow runs, but for `make_deterministic`.

    `key`, a SHA-256 as `stage_key` gives it, says what is to be trained.

    Raises:
        InputError: this worker's port is taken, another did not come within WAIT_SECONDS, or has
            another key.
    """
    import tensorflow as tf

    if not cluster.addresses:
        gpus = [gpu.name for gpu in tf.config.list_logical_devices("GPU")]
        if len(gpus) > 1:
            return tf.distribute.MirroredStrategy(gpus)
        return tf.distribute.get_strategy()
    wait_for_others(cluster)
    # A worker that is lost right now would have TensorFlow wait for an hour, deaf to Ctrl-C.
    faulthandler.dump_traceback_later(CONNECT_SECONDS, exit=True)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    faulthandler.cancel_dump_traceback_later()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # TensorFlow would ignore it

    def gather_keys() -> tf.Tensor:
        row = tf.constant([list(bytes.fromhex(key))])
        return tf.distribute.get_replica_context().all_gather(row, axis=0)

    rows = tf.function(lambda: run_alike(strategy, gather_keys))().numpy()
    rows = rows[:: len(rows) // len(cluster.addresses)]  # one of each worker's GPUs
    if others := [cluster.name(i) for i, row in enumerate(rows) if (row != rows[0]).any()]:
        raise InputError(
            f"{', '.join(others)} and {cluster.name(0)} do not train the same: expected the same "
            "commit, params.yaml and data/prepared on all; look at `git status` and `dvc status`"
        )
    return strategy


def wait_for_others(cluster: Cluster) -> None:
    """Return when all other workers have been seen at their addresses, and be seen at one's own
    until then.

    Raises:
        InputError: one's own port is taken, or some did not come within WAIT_SECONDS.
    """
    port = int(cluster.addresses[cluster.worker].rpartition(":")[2])
    missing = [i for i in range(len(cluster.addresses)) if i != cluster.worker]
    deadline = time.monotonic() + WAIT_SECONDS
    try:
        listener = socket.create_server(("", port), backlog=len(cluster.addresses))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise InputError(
            f"{cluster.name(cluster.worker)} cannot open its port ({reason}): "
            "expected a free one; end what uses it, or name another in TF_CONFIG on all workers"
        ) from error
    with listener:
        missing = [i for i in missing if not _is_there(cluster.addresses[i])]
        if missing:
            print(f"waiting for {', '.join(map(cluster.name, missing))}", flush=True)
        while missing:
            if time.monotonic() > deadline:
                raise InputError(
                    f"{', '.join(map(cluster.name, missing))} did not come within {WAIT_SECONDS} "
                    "seconds: start all workers, each able to reach the others' addresses"
                )
            time.sleep(0.2)
            missing = [i for i in missing if not _is_there(cluster.addresses[i])]


def _is_there(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except (OSError, UnicodeError):  # the latter for a host name that cannot be one
        return False
    return True


def run_alike(
    strategy: tf.distribute.Strategy, function: Callable[..., Any], *arguments: Any
) -> Any:
    """What `function` returns on every replica alike: on each GPU, and each worker without one.
    To be called within a `tf.function`."""
    import tensorflow as tf

    results = strategy.run(function, arguments)
    return tf.nest.map_structure(
        lambda result: strategy.experimental_local_results(result)[0], results
    )


def replica_numbers(strategy: tf.distribute.Strategy) -> list[int]:
    """Which of all replicas are this process's: the chief's begin at 0."""
    import tensorflow as tf

    def number() -> tf.Tensor:
        return tf.distribute.get_replica_context().replica_id_in_sync_group

    numbers = tf.function(lambda: strategy.run(number))()
    return [int(each) for each in strategy.experimental_local_results(numbers)]


def take_from_chief(strategy: tf.distribute.Strategy, variables: Sequence[Any]) -> None:
    """Set the Keras `variables` of every worker to the chief's values."""
    import tensorflow as tf

    def of_the_chief() -> list[tf.Tensor]:
        replica = tf.distribute.get_replica_context()
        share = tf.cast(replica.replica_id_in_sync_group == 0, tf.float64)
        # float64 holds a float32 and an integer below 2^53 as they are.
        values = [tf.cast(variable, tf.float64) * share for variable in variables]
        return replica.all_reduce("SUM", values)  # type: ignore[no-any-return]

    values = tf.function(lambda: run_alike(strategy, of_the_chief))()
    for variable, value in zip(variables, values, strict=True):
        variable.assign(tf.cast(value, variable.dtype))


@contextmanager
def output_folder(cluster: Cluster) -> Iterator[Path]:
    """Where this worker writes: the chief here, the others into a folder that vanishes."""
    if cluster.is_chief:
        yield Path()
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


@contextmanager
def reporting_lost_workers() -> Iterator[None]:
    """Have what TensorFlow raises when a worker is gone say so.

    Its workers exchange heartbeats, and notice within 10 seconds one that was killed, hangs, or is
    cut off.

    Raises:
        InputError: a worker is gone.
    """
    import tensorflow as tf

    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError) as error:
        raise InputError(
            "a worker was lost: it failed, or its machine or the network did; start all workers "
            "again, and the training goes on after its last whole epoch"
        ) from error
