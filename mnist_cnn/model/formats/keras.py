"""Keras' own format, `.keras`."""

import json
import zipfile
from pathlib import Path
from typing import Any

from mnist_cnn.errors import InputError, describe_exception
from mnist_cnn.files import reproducible_zip_entry
from mnist_cnn.model.formats.base import (
    MAX_MODEL,
    METADATA,
    BatchModel,
    ImageBatch,
    Metadata,
    Network,
    zipped_metadata,
)


def write(
    network: Network,
    path: Path,
    _samples: ImageBatch | None = None,
    metadata: Metadata | None = None,
) -> None:
    """Write a `.keras` file whose bytes depend only on the network.

    Keras stores the time in `metadata.json` and the zip entries, and memory addresses in
    `config.json`, where equal addresses mark a shared object. This removes the time and numbers the
    shared objects.
    """
    numbers: dict[int, int] = {}

    def number_shared_object(mapping: dict[str, Any]) -> dict[str, Any]:
        if "shared_object_id" in mapping:
            address = mapping["shared_object_id"]
            mapping["shared_object_id"] = numbers.setdefault(address, len(numbers))
        return mapping

    network.save(path)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    versions = json.loads(contents["metadata.json"])
    del versions["date_saved"]
    config = json.loads(contents["config.json"], object_hook=number_shared_object)
    contents["metadata.json"] = json.dumps(versions).encode()
    contents["config.json"] = json.dumps(config).encode()
    if metadata:
        contents[METADATA] = metadata.to_json().encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(reproducible_zip_entry(name), content)


def load_network(path: Path) -> Network:
    """Load a network saved by `write` or plain Keras, in Keras' safe mode.

    Raises:
        InputError: the file is missing or damaged, contains code, or isn't a sequential network
            with known shapes.
    """
    from mnist_cnn.model.backend import keras

    try:
        if not path.exists():
            raise FileNotFoundError("it does not exist")
        if not zipfile.is_zipfile(path):
            raise ValueError("it is not a zip archive, or is truncated")
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_MODEL:
                raise ValueError(f"it unzips to more than {MAX_MODEL:,} bytes")
        network = keras.models.load_model(path, compile=False, safe_mode=True)
        if not isinstance(network, keras.Sequential) or not network.built:
            raise ValueError("it is not a sequential network with an input")
    except Exception as error:  # a damaged file can raise anything
        # Keras surrounds the reason with lines of configuration.
        reason = describe_exception(error).split("Exception encountered:")[-1].strip()
        raise InputError(
            f"{path} is not a usable Keras model ({reason}): expected a sequential model without "
            "custom code; recreate it with `dvc repro --force train`"
        ) from error
    return network


def read(path: Path) -> tuple[tuple[int, ...], BatchModel, Metadata | None]:
    from mnist_cnn.model.network import predict_proba

    network = load_network(path)
    return (
        network.input_shape[1:],
        lambda images: predict_proba(network, images),
        zipped_metadata(path),
    )
