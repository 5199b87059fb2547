"""Augment images and drop features at random, determined by seeds."""

import math

import numpy as np

from mnist_cnn.model.backend import keras, tf
from mnist_cnn.params import TrainParams


def augment(images: tf.Tensor, params: TrainParams, seed: tf.Tensor) -> tf.Tensor:
    """Randomly mirror, rotate, zoom, shear and shift each image of a batch float32 [N, H, W, C]
    about its centre, as far as the parameters say. The amounts depend only on `seed`, int32 [2].
    """
    if params.horizontal_flip:
        draws = tf.random.stateless_uniform((images.shape[0], 1, 1, 1), tf.random.fold_in(seed, 0))
        images = tf.where(draws < 0.5, tf.reverse(images, axis=[2]), images)
    if params.rotation or params.zoom or params.shear or params.translation:
        images = _transform(images, params, seed)
    return images


def _transform(images: tf.Tensor, params: TrainParams, seed: tf.Tensor) -> tf.Tensor:
    """The amounts are uniform within plus and minus the four parameters. Values between pixels are
    interpolated linearly; pixels from outside the image are 0."""
    count, height, width = images.shape[:3]
    zoom, shift = params.zoom, params.translation
    limits = np.radians(params.rotation), params.shear, zoom, zoom, shift, shift
    shares = tf.random.stateless_uniform((6, count), seed, minval=-1, maxval=1)
    amounts = shares * tf.constant(limits, tf.float32, shape=(6, 1))
    angle, shear, zoom_x, zoom_y, shift_x, shift_y = tf.unstack(amounts)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # Pixel (x, y) of the result comes from (a x + b y + c, d x + e y + f).
    a, b = cos * (1 + zoom_x), (cos * shear - sin) * (1 + zoom_y)
    d, e = sin * (1 + zoom_x), (sin * shear + cos) * (1 + zoom_y)
    x, y = (width - 1) / 2, (height - 1) / 2
    c, f = x - a * x - b * y + shift_x, y - d * x - e * y + shift_y
    zeros = tf.zeros(count)  # no perspective
    transform = tf.stack([a, b, c, d, e, f, zeros, zeros], axis=1)
    return keras.ops.image.affine_transform(images, transform)


def dropout(values: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Set a fraction `rate`, rounded to 1/256, of float32 `values` of a known shape to 0, and scale
    up the others so that the expected sum stays the same (Srivastava et al. 2014,
    https://jmlr.org/papers/v15/srivastava14a.html). The choice depends only on `seed`, int32 [2].

    This draws one random byte per value. Keras' layer draws four, which takes a fifth of a step.
    """
    size = math.prod(values.shape)
    words = tf.random.stateless_uniform([-(-size // 4)], seed, None, None, tf.uint32)
    draws = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size], values.shape)
    dropped = min(round(256 * rate), 255)
    return tf.where(draws < dropped, 0.0, values * (256 / (256 - dropped)))
