"""The interface of a model format, and what a model's file says about its images."""

import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Network = Any  # keras.Sequential: importing Keras takes seconds
ImageBatch = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float32]
BatchModel = Callable[[ImageBatch], Probabilities]

METADATA = "mnist_cnn.json"  # a file in a zip archive or folder, or a key
MAX_METADATA = 2**20  # characters
MAX_MODEL = 10**9  # bytes
MAX_MEMORY = 4 * 10**9  # bytes that loading a model and a prediction may take
MAX_SECONDS = 10  # that an ONNX model may take for each image


@dataclass(frozen=True)
class Metadata:
    """How a model reads pictures.

    - `classes`: their names, in the order of the probabilities
    - `input`: "digit" for the ink of a digit in a picture, "picture" for all of it
    - `resizing`: "pad" or "crop", as in `fit_picture`
    - `image_size` and `color_mode`, as in `params.yaml`
    - `temperature` by which the logits were divided to calibrate them
    """

    classes: list[str]
    input: str
    resizing: str
    image_size: list[int]
    color_mode: str
    temperature: float

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


def parse_metadata(text: str | bytes) -> Metadata:
    """Parse what `Metadata.to_json` returns.

    Raises:
        ValueError: it's something else, or too long.
    """
    if len(text) > MAX_METADATA:
        raise ValueError(f"its {METADATA} has more than {MAX_METADATA:,} characters")
    try:
        metadata = Metadata(**json.loads(text))
    except TypeError as error:
        raise ValueError(f"its {METADATA} has other keys ({error})") from error
    names = metadata.classes
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) and name.isprintable() for name in names)
        or metadata.input not in ("digit", "picture")
        or metadata.resizing not in ("pad", "crop")
    ):
        raise ValueError(f"its {METADATA} has wrong values")
    return metadata


def zipped_metadata(path: Path) -> Metadata | None:
    """Return the metadata in a zip archive, which may follow other content."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if METADATA not in archive.namelist():
            return None
        with archive.open(METADATA) as file:
            return parse_metadata(file.read(MAX_METADATA + 1))


@contextmanager
def limited_memory() -> Iterator[None]:
    """On Linux, let the process fail to allocate more than MAX_MEMORY."""
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MAX_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit if soft < 0 else min(soft, limit), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Format(NamedTuple):
    """A file format for the network.

    - `path`: where the pipeline keeps the model
    - `write(network, path, samples, metadata)`: write the network, with reproducible bytes; formats
      that quantise calibrate each layer's range on `samples`, images float32 [M, H, W, C] in [0, 1]
    - `read(path)`: return the shape of an image, (H, W, C); the model, a function from images
      float32 [N, H, W, C] in [0, 1] to probabilities float32 [N, classes]; and its metadata
    """

    path: Path
    write: Callable[..., None]
    read: Callable[[Path], tuple[tuple[int, ...], BatchModel, Metadata | None]]
