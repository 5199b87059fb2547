"""Train one network on several machines or GPUs."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mnist_cnn.errors import InputError
from mnist_cnn.model.backend import tf
from mnist_cnn.training.cluster import Cluster, wait_for_workers

CONNECT_SECONDS = 60

WATCHDOG = """
import os, select, signal, sys

process, seconds, message = sys.argv[1:]
ended, _, _ = select.select([sys.stdin], [], [], float(seconds))
if not ended:
    print(message, file=sys.stderr, flush=True)
    os.kill(int(process), signal.SIGKILL)
"""


def create_strategy(cluster: Cluster, key: str) -> tf.distribute.Strategy:
    """Wait for the other workers and return the strategy to train with. A process without other
    workers gets a strategy for all requested GPUs, if there are several, or else TensorFlow's
    default.

    Call this before any TensorFlow operation runs. `key`, a SHA-256 from `stage_key`, identifies
    the training run.

    Raises:
        InputError: this worker's port is taken, or another worker didn't connect within
            WAIT_SECONDS or has a different key. If a worker is lost just then, the process prints
            one line and is killed after CONNECT_SECONDS.
    """
    requested = os.environ["CUDA_VISIBLE_DEVICES"]
    if requested not in ("", "-1") and not tf.config.list_physical_devices("GPU"):
        print(f"CUDA_VISIBLE_DEVICES={requested}: TensorFlow finds no GPU and uses the CPU")
    if not cluster.addresses:
        gpus = [gpu.name for gpu in tf.config.list_logical_devices("GPU")]
        if len(gpus) > 1:
            return tf.distribute.MirroredStrategy(gpus)
        return tf.distribute.get_strategy()
    wait_for_workers(cluster)
    with _kill_if_workers_do_not_connect():
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # TensorFlow ignores it
    _check_keys(strategy, cluster, key)
    return strategy


@contextmanager
def _kill_if_workers_do_not_connect() -> Iterator[None]:
    """End this process with one line if the block takes longer than CONNECT_SECONDS.

    If a worker dies while connecting, TensorFlow waits for an hour, ignores Ctrl-C and lets no
    other Python thread run, so another process has to watch.
    """
    message = (
        f"error: the workers did not connect within {CONNECT_SECONDS} seconds: one was lost, or "
        "another program uses its address; start all workers again"
    )
    command = [sys.executable, "-c", WATCHDOG, str(os.getpid()), str(CONNECT_SECONDS), message]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as watchdog:
        yield
        watchdog.communicate()  # it ends when its input does, or this process


def _check_keys(strategy: tf.distribute.Strategy, cluster: Cluster, key: str) -> None:
    def gather_keys() -> tf.Tensor:
        row = tf.constant([list(bytes.fromhex(key))])
        return tf.distribute.get_replica_context().all_gather(row, axis=0)

    rows = tf.function(lambda: run_on_replicas(strategy, gather_keys))().numpy()
    rows = rows[:: len(rows) // len(cluster.addresses)]  # one row per worker
    if others := [cluster.name(i) for i, row in enumerate(rows) if (row != rows[0]).any()]:
        raise InputError(
            f"{', '.join(others)} would not train the same network as {cluster.name(0)}: expected "
            "the same commit, params.yaml and data/prepared on all workers; compare `git status` "
            "and `dvc status`"
        )


def run_on_replicas(
    strategy: tf.distribute.Strategy, function: Callable[..., Any], *arguments: Any
) -> Any:
    """Call `function` on every replica and return its result, which must be the same on all. A
    replica is a GPU, or a worker without GPUs. Call this within a `tf.function`."""
    results = strategy.run(function, arguments)
    return tf.nest.map_structure(
        lambda result: strategy.experimental_local_results(result)[0], results
    )


def sum_over_replicas(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Sum the `values` of all replicas. Call this within `run_on_replicas`."""
    values = [tf.identity(value) for value in values]  # reads this replica's copy of a variable
    sums: list[tf.Tensor] = tf.distribute.get_replica_context().all_reduce("SUM", values)
    return sums


def local_replicas(strategy: tf.distribute.Strategy) -> list[int]:
    """Return the numbers of this process's replicas; the chief's start at 0."""

    def number() -> tf.Tensor:
        return tf.distribute.get_replica_context().replica_id_in_sync_group

    numbers = tf.function(lambda: strategy.run(number))()
    return [int(each) for each in strategy.experimental_local_results(numbers)]


def broadcast_from_chief(strategy: tf.distribute.Strategy, variables: Sequence[Any]) -> None:
    """Set the Keras `variables` of every worker to the chief's values."""

    def chief_values() -> list[tf.Tensor]:
        replica = tf.distribute.get_replica_context()
        share = tf.cast(replica.replica_id_in_sync_group == 0, tf.float64)
        # float64 represents any float32, and integers below 2^53, exactly.
        return sum_over_replicas([tf.cast(variable, tf.float64) * share for variable in variables])

    values = tf.function(lambda: run_on_replicas(strategy, chief_values))()
    for variable, value in zip(variables, values, strict=True):
        variable.assign(tf.cast(value, variable.dtype))


@contextmanager
def report_lost_workers() -> Iterator[None]:
    """Turn TensorFlow's errors about a lost worker into an `InputError`.

    Workers exchange heartbeats. They notice within 10 seconds if one is killed, hangs or is
    disconnected.

    Raises:
        InputError: a worker was lost.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError) as error:
        raise InputError(
            "a worker was lost: it, its machine or the network failed; start all workers again to "
            "resume from the last completed epoch"
        ) from error
