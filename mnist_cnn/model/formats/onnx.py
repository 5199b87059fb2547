"""ONNX, for ONNX Runtime and others: `.onnx`."""

from functools import cache, partial
from pathlib import Path
from threading import Timer

import numpy as np

from mnist_cnn.model.formats.base import (
    MAX_MEMORY,
    MAX_SECONDS,
    METADATA,
    BatchModel,
    ImageBatch,
    Metadata,
    Network,
    Probabilities,
    parse_metadata,
)


def write(
    network: Network,
    path: Path,
    _samples: ImageBatch | None = None,
    metadata: Metadata | None = None,
) -> None:
    """Write an ONNX file: `images` float32 [N, H, W, C] to `probabilities` float32 [N, classes].

    tf2onnx names values and the graph's origin with counters that depend on earlier work in the
    process. They also change the order of the weights. Here names and weights follow the order of
    the nodes, and the origin is removed.
    """
    import onnx

    from mnist_cnn.model.backend import tf

    network = _with_fixed_flatten(network)
    signature = tf.TensorSpec(network.input_shape, tf.float32, name="images")
    network.export(path, format="onnx", verbose=False, input_signature=[signature])
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
    graph.ClearField("doc_string")
    if metadata:
        onnx.helper.set_model_props(model, {METADATA: metadata.to_json()})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _with_fixed_flatten(network: Network) -> Network:
    """Replace Keras' Flatten with a plain reshape. Flatten computes the number of images, and
    whether tf2onnx removes that computation depends on Python's hash seed."""
    from mnist_cnn.model.backend import keras, tf

    layers = [
        keras.layers.Lambda(partial(tf.reshape, shape=(-1, *layer.output.shape[1:])))
        if isinstance(layer, keras.layers.Flatten)
        else layer
        for layer in network.layers
    ]
    return keras.Sequential([keras.Input(network.input_shape[1:]), *layers])


def read(path: Path) -> tuple[tuple[int, ...], BatchModel, Metadata | None]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    _limit_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    session = onnxruntime.InferenceSession(
        path,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["ConstantFolding"],  # would compute before anything limits the time
    )
    (source,) = session.get_inputs()

    def model(images: ImageBatch) -> Probabilities:
        run = onnxruntime.RunOptions()
        timer = Timer(MAX_SECONDS * len(images), setattr, (run, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            (probabilities,) = session.run(None, {source.name: images}, run)
        finally:
            timer.cancel()
        return np.asarray(probabilities)

    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    return tuple(source.shape[1:]), model, parse_metadata(text) if text else None


@cache  # once per process
def _limit_memory() -> None:
    """Let all models together compute with at most MAX_MEMORY."""
    import onnxruntime

    place = onnxruntime.OrtMemoryInfo(
        "Cpu",
        onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
        0,
        onnxruntime.OrtMemType.DEFAULT,
    )
    limit = onnxruntime.OrtArenaCfg({"max_mem": MAX_MEMORY})
    onnxruntime.create_and_register_allocator(place, limit)
