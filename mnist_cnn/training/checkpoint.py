"""Save the state of training, so that it can resume after an interruption."""

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnist_cnn.files import sha256, write_atomically
from mnist_cnn.params import PARAMS_PATH, read_yaml

History = list[dict[str, float]]


class Checkpoint(NamedTuple):
    """A file with the state of a training run after its last completed epoch. The `key` identifies
    the run; the state of a different run is ignored."""

    path: Path
    key: str

    def save(self, variables: Sequence[Any], history: History) -> None:
        """Write the values of the Keras `variables` and the epochs so far, atomically.

        Raises:
            InputError: the file can't be written.
        """
        content: dict[str, Any] = {"key": self.key, "history": json.dumps(history)}
        content |= {f"variable_{i}": np.asarray(value) for i, value in enumerate(variables)}
        with write_atomically(self.path) as partial, partial.open("wb") as file:
            np.savez(file, **content)

    def history(self) -> History:
        """Return the saved epochs; none without a usable file of this run."""
        return self._load(0)[1]

    def restore(self, variables: Sequence[Any]) -> History:
        """Set the `variables` to the saved values and return the saved epochs. Without a usable
        file of this run, change nothing and return no epochs."""
        values, history = self._load(len(variables))
        for variable, value in zip(variables, values, strict=False):
            variable.assign(value)
        return history

    def _load(self, variables: int) -> tuple[list[Any], History]:
        try:
            with np.load(self.path, allow_pickle=False) as saved:
                if str(saved["key"]) != self.key:
                    return [], []
                values = [saved[f"variable_{i}"] for i in range(variables)]
                return values, json.loads(str(saved["history"]))
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            return [], []


def stage_key(name: str) -> str:
    """Return a SHA-256 of everything that makes DVC rerun the stage `name`: its definition in
    `dvc.yaml`, its parameters and the content of its dependencies."""
    stage = read_yaml(Path("dvc.yaml"))["stages"][name]
    params = read_yaml(PARAMS_PATH)
    files = [file for dependency in stage["deps"] for file in _files(Path(dependency))]
    reasons = [
        stage,
        [params[section] for section in stage["params"]],
        [[file.as_posix(), sha256(file)] for file in files],
    ]
    return hashlib.sha256(json.dumps(reasons).encode()).hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        files = (file for file in sorted(path.rglob("*")) if file.is_file())
        yield from (file for file in files if "__pycache__" not in file.parts)
    else:
        yield path
