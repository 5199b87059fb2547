"""LiteRT (TensorFlow Lite), for phones and small devices: `.tflite`, float or 8-bit."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mnist_cnn.files import reproducible_zip_entry
from mnist_cnn.model.formats.base import (
    METADATA,
    BatchModel,
    ImageBatch,
    Metadata,
    Network,
    Probabilities,
    zipped_metadata,
)


def write(
    network: Network,
    path: Path,
    _samples: ImageBatch | None = None,
    metadata: Metadata | None = None,
) -> None:
    """Write a LiteRT file that maps float32 [N, H, W, C] to float32 [N, classes]."""
    _export(network, path, metadata)


def write_int8(
    network: Network, path: Path, samples: ImageBatch, metadata: Metadata | None = None
) -> None:
    """Write a LiteRT file with 8-bit integer weights and arithmetic (Jacob et al. 2017,
    https://arxiv.org/abs/1712.05877), calibrated on `samples`. Inputs and outputs stay float32."""
    from mnist_cnn.model.backend import tf

    def one_by_one() -> Iterator[list[ImageBatch]]:
        for sample in samples:
            yield [sample[np.newaxis]]

    optimizations = [tf.lite.Optimize.DEFAULT]
    _export(network, path, metadata, optimizations=optimizations, representative_dataset=one_by_one)


def _export(network: Network, path: Path, metadata: Metadata | None, **options: object) -> None:
    """The metadata follows the model as a zip archive, which LiteRT ignores, as in the LiteRT
    Metadata format (https://ai.google.dev/edge/litert/models/metadata)."""
    from mnist_cnn.model.backend import tf

    signature = tf.TensorSpec(network.input_shape, tf.float32, name="images")
    network.export(path, format="litert", verbose=False, input_signature=[signature], **options)
    if metadata:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(reproducible_zip_entry(METADATA), metadata.to_json())


def read(path: Path) -> tuple[tuple[int, ...], BatchModel, Metadata | None]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

    def model(images: ImageBatch) -> Probabilities:
        interpreter.resize_tensor_input(source["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], images)
        interpreter.invoke()
        return np.array(interpreter.get_tensor(target["index"]))

    return tuple(source["shape"][1:].tolist()), model, zipped_metadata(path)
