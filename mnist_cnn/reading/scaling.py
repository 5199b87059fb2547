"""Turn a digit's ink into an image like MNIST's.

MNIST's digits were scaled to fit 20 x 20 pixels, keeping their aspect ratio, and placed in 28 x 28
pixels so that their centre of mass is in the middle (LeCun, Cortes and Burges,
http://yann.lecun.com/exdb/mnist/).
"""

import math

import cv2
import numpy as np
from PIL import Image

from mnist_cnn.reading.ink import Grey, Mask

MARGIN = 4  # pixels around a digit in an image
# In pixels of such an image. A tenth of MNIST's training images have thinner strokes.
THINNEST_STROKE = 1.5


def as_mnist(ink: Grey, image_shape: tuple[int, int] = (28, 28)) -> Grey:
    """Scale and centre one digit's ink [h, w] in [0, 1] as in MNIST: float32 [H, W, 1]. An image
    that is wider than MNIST's has room for two digits.

    Strokes thinner than THINNEST_STROKE are thickened first.
    """
    height, width = image_shape
    room = np.array(image_shape) - 2 * MARGIN
    left, top, across, down = cv2.boundingRect((ink > 0.1).astype(np.uint8))
    ink = ink[top : top + down, left : left + across]
    pitch = max(ink.shape / room)
    missing = (THINNEST_STROKE * pitch - _stroke_width(_pad(ink, 1) > 0.5)) / 2
    if missing > 0.5:
        ink = _pad(ink, round(missing))
        outside = _distance_to_false(ink <= 0.5)
        ink = np.maximum(ink, np.clip(missing + 0.5 - outside, 0, 1))
        pitch = max(ink.shape / room)
    down, across = (math.ceil(side / pitch - 1e-6) for side in ink.shape)
    padded = Image.fromarray(_pad(ink, math.ceil(pitch)))
    x, y = (padded.width - across * pitch) / 2, (padded.height - down * pitch) / 2
    area = (x, y, padded.width - x, padded.height - y)
    resized = padded.resize((across, down), Image.Resampling.BICUBIC, area)
    small = np.clip(np.asarray(resized), 0, None)
    small = small / small.max()
    y, x = np.arange(down) @ small.sum(axis=1), np.arange(across) @ small.sum(axis=0)
    top = min(max(round(height / 2 - y / small.sum()), 0), height - down)
    left = min(max(round(width / 2 - x / small.sum()), 0), width - across)
    image = np.zeros((height, width, 1), np.float32)
    image[top : top + down, left : left + across, 0] = small
    return image


def _stroke_width(mask: Mask) -> float:
    """Return the mean width of the strokes in pixels, measured along their centre lines: twice the
    distance to the background."""
    depth = _distance_to_false(mask)
    ridge = (depth >= cv2.dilate(depth, np.ones((3, 3)))) & (depth > 0)
    return 2 * float(depth[ridge].mean()) - 1


def _pad(ink: Grey, margin: int) -> Grey:
    """Add `margin` pixels without ink on each side; np.pad would take ten times as long."""
    sides = (margin, margin, margin, margin)
    return np.asarray(cv2.copyMakeBorder(ink, *sides, cv2.BORDER_CONSTANT, value=0), np.float32)


def _distance_to_false(mask: Mask) -> Grey:
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5))
