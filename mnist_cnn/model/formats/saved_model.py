"""TensorFlow's SavedModel, a folder."""

from pathlib import Path

import numpy as np

from mnist_cnn.model.formats.base import BatchModel, ImageBatch, Network, Probabilities


def write(network: Network, folder: Path, _samples: ImageBatch | None = None) -> None:
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


def read(folder: Path) -> tuple[tuple[int, ...], BatchModel]:
    from mnist_cnn.model.backend import tf

    serve = tf.saved_model.load(folder).signatures["serving_default"]
    (source,) = serve.structured_input_signature[1].values()

    def model(images: ImageBatch) -> Probabilities:
        (probabilities,) = serve(tf.constant(images)).values()
        return np.asarray(probabilities)

    return tuple(source.shape[1:].as_list()), model
