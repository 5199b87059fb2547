"""Build the network from `params.model`, and predict with it."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from mnist_cnn.data.images import Images, prediction_batch_size
from mnist_cnn.model.backend import keras, tf
from mnist_cnn.params import ModelParams

layers = keras.layers


def build_network(
    params: ModelParams, image_shape: tuple[int, ...], classes: int
) -> keras.Sequential:
    """Build the network, with fresh weights. It maps images float32 [N, H, W, C] in [0, 1] to
    probabilities float32 [N, classes].

    With batch normalisation (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167), the outputs
    of each pooling and of the hidden dense layer are normalised before the ReLU. Pooling comes
    first because it leaves fewer values to normalise.
    """
    stack: list[keras.Layer] = []
    for convolution in params.convolutions:
        shape = (convolution.filters, convolution.kernel_size, convolution.strides or 1)
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
    stack.append(
        layers.GlobalAveragePooling2D() if params.global_average_pooling else layers.Flatten()
    )
    stack.append(layers.Dropout(params.dropout))
    if params.batch_normalization:
        stack += [layers.Dense(params.dense_units, use_bias=False), *_normalized_relu()]
    else:
        stack.append(layers.Dense(params.dense_units, activation="relu"))
    stack.append(layers.Dense(classes, activation="softmax"))
    return keras.Sequential([keras.Input(image_shape), *stack], name="mnist_cnn")


def _normalized_relu() -> list[keras.Layer]:
    # Keras' default momentum of 0.99 is too slow for a single epoch.
    return [layers.BatchNormalization(momentum=0.9), layers.ReLU()]


def predict_proba(network: keras.Sequential, images: Images) -> npt.NDArray[np.float32]:
    """Map images float32 [N, H, W, C] in [0, 1] to probabilities float32 [N, classes]."""
    size = prediction_batch_size(images.shape[1:])

    def predict_batch(start: int) -> npt.NDArray[np.float32]:
        batch = images[start : start + size]
        return _call_network(network, batch).numpy()  # type: ignore[no-any-return]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        starts = range(0, len(images), size)
        return np.concatenate(list(pool.map(predict_batch, starts)))


@tf.function(jit_compile=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
def _call_network(network: keras.Sequential, images: tf.Tensor) -> tf.Tensor:
    return network(images, training=False)
