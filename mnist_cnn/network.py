"""The CNN: built from `params.model` and nothing else, saved and loaded."""

import gc
import json
import os
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_cnn.errors import InputError, silenced
from mnist_cnn.files import fixed_entry
from mnist_cnn.params import ModelParams
from mnist_cnn.stored import Images

# TensorFlow reads these when it is imported. By default it takes oneDNN's kernels on newer CPUs
# alone, and the newest instructions for them. With oneDNN everywhere, held to AVX2 (which x86-64
# CPUs have had for ten years), all of them round alike; on a CPU with AVX-512, training takes 1.2
# times as long (median of 3). A GPU would round otherwise: none is used that is not named.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def _quick() -> Iterator[None]:
    """For importing TensorFlow and Keras, a third of whose time would go into collecting garbage
    that is none and, where they are installed, into packages that Keras can do without."""
    optional = {name: sys.modules.get(name) for name in ("matplotlib", "sklearn")}
    gc.disable()
    for name in optional:
        sys.modules[name] = None  # type: ignore[assignment]  # as if not installed
    try:
        yield
    finally:
        for name, module in optional.items():
            del sys.modules[name]
            if module:
                sys.modules[name] = module
        gc.enable()


# They greet with lines about missing GPUs
# (https://github.com/tensorflow/tensorflow/issues/100442).
with _quick(), silenced():
    import keras
    import tensorflow as tf
    from keras import layers


def make_deterministic(seed: int = 0) -> None:
    """Fix what the bits of a result depend on: kernels, threads per kernel, seeds, layer names.

    To be called before anything else of TensorFlow or Keras runs; prediction draws nothing at
    random, so that the seed matters to training alone. Source:
    https://www.tensorflow.org/api_docs/python/tf/config/experimental/enable_op_determinism
    """
    tf.config.experimental.enable_op_determinism()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)


def build_network(
    params: ModelParams, image_shape: tuple[int, ...], classes: int
) -> keras.Sequential:
    """The network with fresh weights: images float32 [N, H, W, C] in [0, 1] to probabilities
    float32 [N, classes].

    With batch normalisation (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167) what each
    pooling and the hidden dense layer give is normalised before its ReLU: there are fewer numbers
    to normalise after a pooling than before it.
    """
    stack: list[keras.Layer] = []
    for convolution in params.convolutions:
        shape = (convolution.filters, convolution.kernel_size, convolution.strides)
        if convolution.pool_size and params.batch_normalization:
            stack += [
                layers.Conv2D(*shape, use_bias=False),
                layers.MaxPooling2D(convolution.pool_size),
                *_normalized_relu(),
            ]
        else:
            stack.append(layers.Conv2D(*shape, activation="relu"))
            if convolution.pool_size:
                stack.append(layers.MaxPooling2D(convolution.pool_size))
    stack += [layers.Flatten(), layers.Dropout(params.dropout)]
    if params.batch_normalization:
        stack += [layers.Dense(params.dense_units, use_bias=False), *_normalized_relu()]
    else:
        stack.append(layers.Dense(params.dense_units, activation="relu"))
    stack.append(layers.Dense(classes, activation="softmax"))
    return keras.Sequential([keras.Input(image_shape), *stack], name="mnist_cnn")


def _normalized_relu() -> list[keras.Layer]:
    # Keras' momentum of 0.99 remembers too much of the start for a training of one epoch.
    return [layers.BatchNormalization(momentum=0.9), layers.ReLU()]


def save_network(network: keras.Sequential, path: Path) -> None:
    """Write a `.keras` file whose bytes depend on nothing but the network.

    Keras puts the time of saving into `metadata.json` and the zip entries, and addresses in memory
    into `config.json`, where equal ones mark a shared object: here the time is left out, and
    shared objects are numbered.
    """
    numbers: dict[int, int] = {}

    def number_shared(mapping: dict[str, Any]) -> dict[str, Any]:
        if "shared_object_id" in mapping:
            address = mapping["shared_object_id"]
            mapping["shared_object_id"] = numbers.setdefault(address, len(numbers))
        return mapping

    network.save(path)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(contents["metadata.json"])
    del metadata["date_saved"]
    config = json.loads(contents["config.json"], object_hook=number_shared)
    contents |= {
        "metadata.json": json.dumps(metadata).encode(),
        "config.json": json.dumps(config).encode(),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(fixed_entry(name), content)


def load_network(path: Path) -> keras.Sequential:
    """Read a network that `save_network` or plain Keras wrote, in Keras' safe mode.

    Raises:
        InputError: the file is missing, damaged, holds code, or no sequential network that knows
            its shapes.
    """
    try:
        if not path.exists():
            raise FileNotFoundError("there is no such file")
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip archive, or cut short")
        network = keras.models.load_model(path, compile=False, safe_mode=True)
        if not isinstance(network, keras.Sequential) or not network.built:
            raise ValueError("it is no sequential network with an input")
    except Exception as error:  # whatever a damaged file makes of the reader
        # Keras wraps the reason into lines of configuration.
        problem = str(error).split("Exception encountered:")[-1].strip().split("\n")[0]
        raise InputError(
            f"{path} is not a usable Keras model ({problem}): expected a sequential one without "
            "code of its own; make it anew with `dvc repro --force train`"
        ) from error
    return network


def predict(network: keras.Sequential, images: Images, batch_size: int) -> npt.NDArray[np.float32]:
    """Images float32 [N, H, W, C] in [0, 1] to probabilities float32 [N, classes]."""

    def answer(start: int) -> npt.NDArray[np.float32]:
        batch = images[start : start + batch_size]
        return _probabilities(network, batch).numpy()  # type: ignore[no-any-return]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(answer, range(0, len(images), batch_size))))


@tf.function(jit_compile=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
def _probabilities(network: keras.Sequential, images: tf.Tensor) -> tf.Tensor:
    return network(images, training=False)
