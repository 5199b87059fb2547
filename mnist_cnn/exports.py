"""A trained network written in the formats that other programs read, with bytes that repeat."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import onnx
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

Images = npt.NDArray[np.float32]


def write_onnx(network: keras.Sequential, path: Path) -> None:
    """Write an ONNX file: `images` float32 [N, H, W, C] to `probabilities` float32 [N, classes].

    tf2onnx names what lies between them by counters that differ from run to run, and so does the
    order of the weights: here both follow the order of the nodes.
    """
    # Keras' Flatten asks for the number of images: what tf2onnx leaves of that would differ too.
    layers = [
        keras.layers.Lambda(partial(tf.reshape, shape=(-1, *layer.output.shape[1:])))
        if isinstance(layer, keras.layers.Flatten)
        else layer
        for layer in network.layers
    ]
    network = keras.Sequential([keras.Input(network.input_shape[1:]), *layers])
    network.export(path, format="onnx", verbose=False, input_signature=[_signature(network)])
    model = onnx.load(path)
    graph = model.graph
    names = {graph.input[0].name: "images", graph.output[0].name: "probabilities"}
    for node in graph.node:
        for name in (*node.input, *node.output):
            names.setdefault(name, f"value_{len(names)}")
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for value in (*graph.initializer, *graph.input, *graph.output):
        value.name = names[value.name]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    graph.initializer.sort(key=lambda weights: weights.name)
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def write_litert(network: keras.Sequential, path: Path, samples: Images | None = None) -> None:
    """Write a LiteRT (TensorFlow Lite) file: float32 [N, H, W, C] to float32 [N, classes].

    With `samples`, images float32 [M, H, W, C] in [0, 1] that show the range of each layer's
    numbers, weights and arithmetic in between are 8-bit integers (Jacob et al. 2017,
    https://arxiv.org/abs/1712.05877).
    """

    def one_by_one() -> Iterator[list[Images]]:
        for sample in samples if samples is not None else ():
            yield [sample[np.newaxis]]

    quantized = {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "representative_dataset": one_by_one,
    }
    network.export(
        path,
        format="litert",
        verbose=False,
        input_signature=[_signature(network)],
        **(quantized if samples is not None else {}),
    )


def write_saved_model(network: keras.Sequential, folder: Path) -> None:
    """Write a SavedModel whose signature `serving_default` takes `images` float32 [N, H, W, C] to
    `output_0`, the probabilities float32 [N, classes].

    Its weights are constants of the graph: variables would be saved in an order that differs from
    run to run. So does the optional fingerprint, which is left out.
    """
    function = tf.function(network, input_signature=[_signature(network)], jit_compile=False)
    module = tf.Module()
    module.call = convert_variables_to_constants_v2(function.get_concrete_function())
    tf.saved_model.save(module, str(folder), signatures=module.call)
    (folder / "fingerprint.pb").unlink()
    graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    (folder / "saved_model.pb").write_bytes(graph.SerializeToString(deterministic=True))


def _signature(network: keras.Sequential) -> tf.TensorSpec:
    return tf.TensorSpec(network.input_shape, tf.float32, name="images")
