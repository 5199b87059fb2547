"""Save and load models in several file formats.

Importing this doesn't import TensorFlow. Writing does, and so does reading Keras and SavedModel.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnist_cnn.data.images import Images, prediction_batch_size
from mnist_cnn.errors import (
    INSTALL_PIPELINE,
    InputError,
    describe_exception,
    suppress_stderr,
)
from mnist_cnn.files import check_file, read_limited, sha256
from mnist_cnn.model.formats import keras, litert, onnx, saved_model
from mnist_cnn.model.formats.base import (
    MAX_MODEL,
    BatchModel,
    Format,
    ImageBatch,
    Metadata,
    Probabilities,
    limited_memory,
)

FORMATS = {
    "keras": Format(Path("models/model.keras"), keras.write, keras.read),
    "onnx": Format(Path("models/model.onnx"), onnx.write, onnx.read),
    "litert": Format(Path("models/model.tflite"), litert.write, litert.read),
    "litert_int8": Format(Path("models/model_int8.tflite"), litert.write_int8, litert.read),
    "saved_model": Format(Path("models/saved_model"), saved_model.write, saved_model.read),
}
CHECKSUMS = "SHA256SUMS"
MAX_CHECKSUMS = 2**20  # bytes
NAMED = ", or one from this pipeline, whose file names its classes"

Interface = tuple[tuple[int, ...], int]  # the shape of an image, and the number of classes
MNIST: Interface = ((28, 28, 1), 10)


@dataclass(frozen=True)
class Model:
    """A function from images float32 [N, *image_shape] in [0, 1] to probabilities float32
    [N, classes], and what its file says about the images, if it does."""

    image_shape: tuple[int, ...]
    predict_batch: BatchModel
    metadata: Metadata | None = None

    @property
    def reads_digits(self) -> bool:
        return self.metadata is None or self.metadata.input == "digit"

    def __call__(self, images: Images) -> Probabilities:
        """Predict the probabilities.

        Raises:
            InputError: the model fails, or returns something else.
        """
        size = prediction_batch_size(self.image_shape)
        batches = (images[start : start + size] for start in range(0, len(images), size))
        return np.concatenate([self._predict(batch) for batch in batches])

    def _predict(self, batch: ImageBatch) -> Probabilities:
        try:
            probabilities = self.predict_batch(batch)
            check_probabilities(probabilities)
        except Exception as error:  # a model of unknown origin can raise anything
            raise InputError(
                f"the model fails on an image ({describe_exception(error)}): "
                "expected probabilities; use another model"
            ) from error
        return probabilities


def load_model(path: Path, *expected: Interface, described: bool = False) -> Model:
    """Load a model from a `.keras`, `.onnx` or `.tflite` file or a SavedModel folder. It must have
    one of the `expected` interfaces; MNIST's, if none is given. If `described`, any other will do
    that the model's metadata describes.

    If the file is listed in CHECKSUMS next to it, its checksum is verified first.

    Raises:
        InputError: the model is missing, larger than MAX_MODEL, damaged, fails its checksum, needs
            a package that isn't installed or more than MAX_MEMORY, was made for other images or
            classes, or doesn't return probabilities.
    """
    readers = {path.suffix: read for path, _, read in FORMATS.values()}
    suffix = "" if os.path.isdir(path) else path.suffix  # noqa: PTH112 # Path's may raise
    if suffix not in readers or not path.name:
        raise InputError(
            f"{path} is not a model: expected a SavedModel folder or a file that ends in "
            f"{', '.join(filter(None, readers))}"
        )
    if not os.path.exists(path):  # noqa: PTH110 # Path's may raise
        raise InputError(
            f"{path} does not exist: expected a model; create models/model.onnx with `dvc repro` "
            "in a clone, or use another model"
        )
    if suffix:
        check_file(path, MAX_MODEL)
    _verify_checksum(path)
    expected = expected or (MNIST,)
    try:
        with suppress_stderr(), limited_memory():
            shape, model, metadata = readers[suffix](path)
            classes = {classes for image_shape, classes in expected if image_shape == shape}
            if described and metadata and _is_image_shape(shape):
                classes = {len(metadata.classes)}
            if not classes:
                raise ValueError(f"it takes images {list(shape)}")
            probabilities = model(np.zeros((1, *shape), np.float32))
        if probabilities.shape not in {(1, count) for count in classes}:
            raise ValueError(f"it gives {probabilities.shape[-1]} probabilities")
        check_probabilities(probabilities)
    except InputError:
        raise
    except ModuleNotFoundError as error:
        raise InputError(f"{path} needs the package {error.name}: {INSTALL_PIPELINE}") from error
    except Exception as error:  # a damaged file can raise anything
        interfaces = " or ".join(
            f"takes images {list(image_shape)} and gives {count} probabilities"
            for image_shape, count in expected
        )
        raise InputError(
            f"{path} is not usable ({describe_exception(error)}): expected a model that "
            f"{interfaces}{NAMED if described else ''}; recreate it with `dvc repro`, or use "
            "another model"
        ) from error
    return Model(shape, model, metadata)


def check_probabilities(probabilities: Probabilities) -> None:
    """Raise ValueError unless each row of [N, classes] holds probabilities that sum to 1."""
    # 8-bit probabilities are multiples of 1/256.
    tolerance = max(0.05, probabilities.shape[1] / 512)
    sums = probabilities.sum(axis=1)
    if not (
        probabilities.min() >= 0
        and probabilities.max() <= 1.001
        and (abs(sums - 1) <= tolerance).all()
    ):
        raise ValueError("its outputs are not probabilities that sum to 1")


def _is_image_shape(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[2] in (1, 3) and all(0 < side <= 1024 for side in shape)


def _verify_checksum(path: Path) -> None:
    checksums = path.parent / CHECKSUMS
    if not os.path.lexists(checksums):
        return
    try:
        lines = read_limited(checksums, MAX_CHECKSUMS).decode().splitlines()
    except UnicodeError as error:
        raise InputError(
            f"{checksums} cannot be read ({describe_exception(error)}): expected a line "
            "`CHECKSUM  FILE` per file; recreate it with `dvc repro --force export`"
        ) from error
    for number, line in enumerate(lines, start=1):
        entry = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line)
        if not entry:
            raise InputError(
                f"{checksums}: line {number} is malformed: expected `CHECKSUM  FILE`; recreate it "
                "with `dvc repro --force export`"
            )
        checksum, name = entry.groups()
        if Path(name) == Path(path.name) and (path.is_dir() or sha256(path) != checksum.lower()):
            raise InputError(
                f"{path} does not match its checksum in {checksums}: recreate both with "
                "`dvc repro --force export`"
            )


def check_conversion(
    name: str, expected: Probabilities, probabilities: Probabilities, tolerance: float
) -> None:
    """Compare the probabilities float32 [N, classes] from the model of format `name` with those
    `expected` from the network it was converted from.

    Raises:
        InputError: a probability differs by more than `tolerance`.
    """
    difference = float(np.abs(probabilities - expected).max())
    if not difference <= tolerance:  # also catches NaN
        raise InputError(
            f"{FORMATS[name].path} and {FORMATS['keras'].path} give probabilities that differ by "
            f"up to {difference:.2g}: expected at most {tolerance:g}; use the package versions in "
            "requirements.txt, and convert again"
        )
