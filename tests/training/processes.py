"""Run training in separate processes, which tests can kill, disconnect or join."""

import json
import multiprocessing
import os
import random
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.helpers import set_params

OUTPUTS = ("models/model.keras", "metrics/training.csv", "metrics/calibration.json")
CHECKPOINT = "models/checkpoint.npz"

# Importing TensorFlow takes four seconds. On Linux, it's imported once and processes are forked.
CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
CONTEXT.set_forkserver_preload(
    ["pytest", "stages.train", "mnist_cnn.training.calibration", "mnist_cnn.training.fit"]
)


def machine(pipeline: Path, folder: Path, **changes: dict[str, object]) -> Path:
    """Create `folder` with all files a machine needs to train, and changed parameters."""
    unneeded = shutil.ignore_patterns(".*", "models", "metrics", "__pycache__")
    shutil.copytree(pipeline, folder, ignore=unneeded)
    set_params(folder, **changes)
    return folder


def tf_config(addresses: Sequence[str], index: int) -> str:
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": addresses}, "task": task})


def free_addresses(count: int, host: str = "127.0.0.1") -> tuple[str, ...]:
    """Return addresses with free ports that the system doesn't use for outgoing connections."""
    addresses: list[str] = []
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                addresses.append(f"{host}:{port}")
    return tuple(addresses[:count])


def outputs(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in OUTPUTS]


class Training:
    """The stage `train`, started in `folder` after calling `prepare`, a top-level function of a
    module, there."""

    def __init__(
        self, folder: Path, prepare: Callable[[], object] | None = None, **environment: str
    ) -> None:
        self.logs = [folder.with_name(f"{folder.name}.{name}") for name in ("stdout", "stderr")]
        arguments = (folder, self.logs, environment, prepare)
        # A daemon process doesn't outlive the tests.
        self.process = CONTEXT.Process(target=_train, args=arguments, daemon=True)  # type: ignore[attr-defined]
        self.process.start()

    def finish(self) -> tuple[int, str, str]:
        """Wait for the process to end by itself; return its exit code, stdout and stderr."""
        self.process.join(timeout=120)
        hangs = self.process.is_alive()
        self.process.kill()
        self.process.join()
        output, errors = (log.read_text() for log in self.logs)
        if hangs:
            pytest.fail(f"hangs: {output}{errors}")
        return self.process.exitcode, output, errors


def _train(
    folder: Path,
    logs: list[Path],
    environment: dict[str, str],
    prepare: Callable[[], object] | None,
) -> None:
    for descriptor, log in enumerate(logs, start=1):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(folder)
    os.environ.update(environment)
    if prepare:
        prepare()

    from stages import train

    train.main()
