"""How far a training has come, so that an interrupted one goes on."""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from mnist_cnn.files import digest, replacing

Epochs = list[dict[str, float]]


class Checkpoint(NamedTuple):
    """A file that holds a training's state after its last whole epoch, and the `key` of that
    training: the state of another one is never taken up."""

    path: Path
    key: str

    def save(self, variables: Sequence[Any], epochs: Epochs) -> None:
        """Write the values of the Keras `variables` and the rows of `epochs`, all or nothing.

        Raises:
            InputError: the folder cannot be written, or the disk is full.
        """
        content: dict[str, Any] = {"key": self.key, "epochs": json.dumps(epochs)}
        content |= {f"variable_{i}": np.asarray(value) for i, value in enumerate(variables)}
        with replacing(self.path) as (partial,):
            np.savez(partial, **content)

    def restore(self, variables: Sequence[Any]) -> Epochs:
        """Set `variables` to what was saved last, and return the rows; where there is no file of
        this training, leave them and return no row."""
        try:
            with np.load(self.path, allow_pickle=False) as saved:
                if str(saved["key"]) != self.key:
                    return []
                values = [saved[f"variable_{i}"] for i in range(len(variables))]
                epochs: Epochs = json.loads(str(saved["epochs"]))
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            return []
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return epochs


def stage_key(name: str) -> str:
    """The SHA-256 of all that DVC takes for a reason to run the stage `name` again: its command,
    its parameters and its dependencies, by their content."""
    stage = yaml.safe_load(Path("dvc.yaml").read_bytes())["stages"][name]
    params = yaml.safe_load(Path("params.yaml").read_bytes())
    reasons = [stage, [params[key] for key in stage["params"]]]
    reasons += [digest(Path(path)) for path in stage["deps"]]
    return hashlib.sha256(json.dumps(reasons).encode()).hexdigest()
