"""TensorFlow's SavedModel, a folder."""

from pathlib import Path

import numpy as np

from mnist_cnn.files import read_limited
from mnist_cnn.model.formats.base import (
    MAX_METADATA,
    MAX_MODEL,
    METADATA,
    BatchModel,
    ImageBatch,
    Metadata,
    Network,
    Probabilities,
    parse_metadata,
)

EXTRA_ASSETS = "assets.extra"  # where SavedModels keep what TensorFlow doesn't use
# What `write` uses. Others could write files or never end.
OPERATIONS = {
    *("AddV2", "BiasAdd", "Const", "Conv2D", "Identity", "MatMul", "MaxPool", "Mean", "Mul"),
    *("NoOp", "Pack", "Placeholder", "Relu", "Reshape", "Rsqrt", "Shape", "Softmax", "Squeeze"),
    *("StridedSlice", "Sub"),
}


def write(
    network: Network,
    folder: Path,
    _samples: ImageBatch | None = None,
    metadata: Metadata | None = None,
) -> None:
    """Write a SavedModel whose signature `serving_default` maps `images` float32 [N, H, W, C] to
    `output_0`, the probabilities float32 [N, classes].

    It holds a frozen graph with the weights as constants, as in TensorFlow 1. TensorFlow 2's layout
    isn't reproducible: it names functions with counters and orders variables differently each run.
    """
    from mnist_cnn.model.backend import tf  # isort: skip # configures TensorFlow first
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = tf.TensorSpec(network.input_shape, tf.float32, name="images")
    function = tf.function(network, input_signature=[signature], jit_compile=False)
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    with tf.compat.v1.Session(graph=frozen.graph) as session:
        (images,), (probabilities,) = frozen.inputs, frozen.outputs
        tf.compat.v1.saved_model.simple_save(
            session, str(folder), {"images": images}, {"output_0": probabilities}
        )
    if metadata:
        (folder / EXTRA_ASSETS).mkdir()
        text = metadata.to_json()
        (folder / EXTRA_ASSETS / METADATA).write_text(text, encoding="utf-8", newline="\n")


def read(folder: Path) -> tuple[tuple[int, ...], BatchModel, Metadata | None]:
    from mnist_cnn.model.backend import tf

    _check_operations(folder)
    serve = tf.saved_model.load(folder).signatures["serving_default"]
    (source,) = serve.structured_input_signature[1].values()

    def model(images: ImageBatch) -> Probabilities:
        (probabilities,) = serve(tf.constant(images)).values()
        return np.asarray(probabilities)

    return tuple(source.shape[1:].as_list()), model, _read_metadata(folder)


def _check_operations(folder: Path) -> None:
    """Raise ValueError unless the SavedModel is a frozen graph of OPERATIONS."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel.FromString(read_limited(folder / "saved_model.pb", MAX_MODEL))
    for meta in model.meta_graphs:
        graph = meta.graph_def
        if graph.library.function or meta.object_graph_def.nodes:
            raise ValueError("it is not a frozen graph, such as `dvc repro` writes")
        if others := {node.op for node in graph.node} - OPERATIONS:
            raise ValueError(f"it uses the operation {min(others)}, which could do anything")


def _read_metadata(folder: Path) -> Metadata | None:
    path = folder / EXTRA_ASSETS / METADATA
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return parse_metadata(file.read(MAX_METADATA + 1))
