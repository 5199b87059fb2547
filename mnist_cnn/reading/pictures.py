"""Find the digits in a picture and turn each into an image like MNIST's.

MNIST's digits were scaled to fit 20 x 20 pixels, keeping their aspect ratio, and placed in 28 x 28
pixels so that their centre of mass is in the middle (LeCun, Cortes and Burges,
http://yann.lecun.com/exdb/mnist/).
"""

import math
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_cnn.errors import InputError, describe_exception

IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
MAX_PIXELS = 100_000_000
MAX_PARTS = 5000
WORKING_SIDE = 1000  # larger pictures are reduced to this

SIDE, DIGIT_SIDE = 28, 20
# In pixels at that scale. A tenth of MNIST's training images have thinner strokes.
THINNEST_STROKE = 1.5
# Ink differs from the background by at least this share of the full range, and by this many times
# the noise.
LEAST_CONTRAST = 0.08
NOISE_LEVELS = 5

Grey = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Components = npt.NDArray[np.int32]
Boxes = npt.NDArray[np.int32]  # [N, 4]: top, left, bottom, right; the last two exclusive

Picture = Path | BinaryIO

cv2.setNumThreads(1)  # most pictures are too small for more threads to pay off
Image.MAX_IMAGE_PIXELS = None  # Pillow would only warn; _decode enforces MAX_PIXELS


class Digit(NamedTuple):
    """A digit's image, float32 [28, 28, 1] in [0, 1] with 1 for ink, and its box in the upright
    picture: left, top, right and bottom in pixels, the last two exclusive."""

    image: Grey
    box: tuple[int, int, int, int]


def find_digits(file: Picture, multiple: bool = False) -> list[Digit]:
    """Find the digits of a picture: all of its ink as one digit or, with `multiple`, each group of
    strokes that belong together, in reading order.

    The picture must be in one of IMAGE_FORMATS; only the first frame of an animation is used. The
    ink may be dark on light or light on dark, in any colour and in uneven light.

    Raises:
        InputError: the picture can't be read, is too large, shows no ink or, with `multiple`, has
            more than MAX_PARTS connected parts.
    """
    grey, reduction = read_grey(file)
    ink = find_ink(grey)
    labels, boxes = group_strokes(ink > 0.5, multiple)
    digits = []
    for label, (top, left, bottom, right) in enumerate(boxes.tolist(), start=1):
        # Soft edges, where ink is at most 0.5, lie outside the box.
        window = np.s_[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2]
        near = _dilate(labels[window] == label)
        image = as_mnist(np.where(near, ink[window], np.float32(0)))
        left, top, right, bottom = (round(edge * reduction) for edge in (left, top, right, bottom))
        digits.append(Digit(image, (left, top, right, bottom)))
    if not digits:
        raise InputError("it shows no digits: expected ink that stands out from the background")
    return digits


def read_grey(file: Picture) -> tuple[Grey, float]:
    """Read a picture as grey values float32 [H, W], with 0 for black and 1 for white, upright and
    with no side longer than WORKING_SIDE; also return the factor by which it was reduced.

    Transparent areas become white under dark ink and black under light ink. If the picture is in
    colour, the channel with the most contrast is used.

    Raises:
        InputError: the picture isn't in one of IMAGE_FORMATS, is damaged, or has more than
            MAX_PIXELS pixels or pixels that aren't finite.
    """
    picture, original_side = _decode(file)
    white = 255.0
    if picture.mode.startswith(("I", "F")):
        white = 65535.0 if picture.mode.startswith("I") else 1.0
        picture = picture.convert("F")
        white = max(white, *np.abs(picture.getextrema()))
    else:
        opaque = "L" if picture.mode in ("1", "L") else "RGB"
        mode = "RGBA" if picture.has_transparency_data else opaque
        if picture.mode != mode:  # otherwise, convert would copy all pixels
            picture = picture.convert(mode)
    picture.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    channels = np.atleast_3d(np.asarray(picture, np.float32))
    if not np.isfinite(channels).all():
        raise InputError(
            "it contains pixels that are infinite or not a number: expected finite values; save it "
            "without them"
        )
    channels = channels / np.float32(white)
    if channels.shape[2] == 4:
        colours, opacity = channels[..., :3], channels[..., 3:]
        light_ink = (colours * opacity).mean() > opacity.mean() / 2
        channels = colours * opacity + (0 if light_ink else 1 - opacity)
    chosen = channels.std(axis=(0, 1)).argmax() if channels.shape[2] > 1 else 0
    grey = channels[..., chosen]
    return grey.astype(np.float32), original_side / max(grey.shape)


def _decode(file: Picture) -> tuple[Image.Image, int]:
    """Decode a picture and turn it upright. Also return the longer side it has in the file, because
    a JPEG is decoded at a smaller size."""
    try:
        with Image.open(file, formats=IMAGE_FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise InputError(
                    f"it has {width} x {height} pixels: expected at most {MAX_PIXELS:,}; reduce it"
                )
            picture.draft(None, (WORKING_SIDE, WORKING_SIDE))
            ImageOps.exif_transpose(picture, in_place=True)
            return picture, max(width, height)
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise anything
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "not a recognised image format" if unknown else describe_exception(error)
        raise InputError(
            f"it cannot be read as a picture ({reason}): expected {', '.join(IMAGE_FORMATS)}"
        ) from error


def find_ink(grey: Grey) -> Grey:
    """Return how much of each pixel is ink, in [0, 1], for a grey picture [H, W] in [0, 1]; 0
    everywhere if nothing stands out.

    The background is modelled as a smooth surface, like light on paper; ink is either darker or
    lighter. Otsu's threshold (1979, https://doi.org/10.1109/TSMC.1979.4310076) separates ink from
    background around the clearest ink. The median of the background becomes 0, and the upper
    quartile of the values above the threshold becomes 1.
    """
    photographed = max(grey.shape) > 2 * SIDE and min(grey.shape) > 1
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    background = _fit_background(grey) if photographed else np.median(edge)
    contrast = grey - background
    # `contrast**3` would take a hundred times as long.
    if (contrast * contrast * contrast).sum() < 0:  # dark ink absorbs a share of the light
        contrast = -contrast / np.maximum(background, 0.1)
    noise = 0.0
    if photographed:  # most neighbouring pixels differ only by noise
        noise = 1.05 * np.median(np.abs(np.diff(contrast)))
        contrast = cv2.GaussianBlur(contrast, (0, 0), 0.7)
    highest = contrast.max()
    clear = contrast > max(NOISE_LEVELS * noise, LEAST_CONTRAST, 0.3 * highest)
    if clear.all() or not clear.any():
        return np.zeros_like(grey)
    around = _dilate(clear)
    values = contrast[around]
    steps = np.clip(values / highest * 255, 0, 255).astype(np.uint8)
    threshold = cv2.threshold(steps, 0, 255, cv2.THRESH_OTSU)[0] / 255 * highest
    zero, one = np.median(contrast[~clear]), np.percentile(values[values > threshold], 75)
    ink = np.clip((contrast - zero) / (one - zero), 0, 1)
    return np.where(around, ink, 0).astype(np.float32)


def _fit_background(grey: Grey) -> Grey:
    """Fit a quadratic surface to the picture's margin, a twentieth on each side: least absolute
    deviations by iteratively reweighted least squares (Schlossmacher 1973,
    https://doi.org/10.1080/01621459.1973.10481436)."""
    y, x = np.ogrid[-1 : 1 : grey.shape[0] * 1j, -1 : 1 : grey.shape[1] * 1j]
    step = max(grey.shape) // 100 + 1
    v, u = (np.ravel(c) for c in np.broadcast_arrays(y[::step], x[:, ::step]))
    margin = np.maximum(np.abs(u), np.abs(v)) >= 0.9
    u, v, values = u[margin], v[margin], grey[::step, ::step].ravel()[margin]
    terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v])
    weights = np.ones_like(values)
    for _ in range(10):
        weighted = terms * weights
        a, b, c, d, e, f = solution = np.linalg.lstsq(weighted @ terms.T, weighted @ values)[0]
        weights = 1 / np.maximum(np.abs(solution @ terms - values), 1e-3)
    surface = (a + b * x + d * x * x) + (c * y + f * y * y) + e * y * x
    return np.asarray(surface, np.float32)


def _dilate(mask: Mask) -> Mask:
    """Add the pixels up to two steps away."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.dilate(mask.astype(np.uint8), cross, iterations=2).astype(bool)


def group_strokes(mask: Mask, multiple: bool) -> tuple[Components, Boxes]:
    """Group the connected parts of `mask` bool [H, W] into digits: labels [H, W], 1 for the first
    digit in reading order and so on, 0 for the background and specks; and the digits' boxes.

    Without `multiple`, all parts but specks form one digit.

    Raises:
        InputError: with `multiple`, there are more than MAX_PARTS parts.
    """
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count == 1:  # the background
        return np.zeros(mask.shape, np.int32), np.empty((0, 4), np.int32)
    left, top, width, height = stats[1:, :4].T
    boxes = np.stack([top, left, top + height, left + width], axis=1)
    sizes = np.maximum(height, width)
    large = sizes >= sizes.max() / 8
    if not multiple:
        enclosing = [*boxes[large, :2].min(axis=0), *boxes[large, 2:].max(axis=0)]
        return np.append(False, large)[parts].astype(np.int32), np.array([enclosing], np.int32)
    if len(boxes) > MAX_PARTS:
        raise InputError(
            f"it shows {len(boxes):,} separate marks: expected at most {MAX_PARTS:,}; crop it to "
            "fewer digits"
        )
    digits, digit_boxes = _join_parts(boxes, large)
    order = _reading_order(digit_boxes)
    labels = np.zeros(len(order) + 1, np.int32)  # the last entry is for parts of no digit
    labels[order] = np.arange(1, len(order) + 1)
    return np.append(np.int32(0), labels[digits])[parts], digit_boxes[order]


def _join_parts(boxes: Boxes, large: Mask) -> tuple[npt.NDArray[np.int_], Boxes]:
    """Return the index of each part's digit, or -1, and the digits' boxes.

    Parts are visited from the tallest to the shortest. A part joins the first digit whose box
    covers more than half of its own. It also joins a digit close by, if it is too short to be a
    digit itself, or is above or below it and the two together are no taller than the tallest part.
    """
    heights, widths = (boxes[:, 2:] - boxes[:, :2]).T
    highest = heights.max()
    digits = np.full(len(boxes), -1)
    joint = np.empty_like(boxes)
    count = 0
    for part in np.argsort(-heights, kind="stable"):
        part_height, part_width = heights[part], widths[part]
        others = joint[:count]
        joined = np.hstack(
            [np.minimum(others[:, :2], boxes[part, :2]), np.maximum(others[:, 2:], boxes[part, 2:])]
        )
        height, width = (others[:, 2:] - others[:, :2]).T
        joined_height, joined_width = (joined[:, 2:] - joined[:, :2]).T
        # How far the two boxes overlap; if negative, how far apart they are.
        down, across = height + part_height - joined_height, width + part_width - joined_width
        overlap = np.minimum(down, across)
        inside = (overlap > 0) & (down * across > part_height * part_width / 2)
        close = overlap > -height / 4
        stroke = part_height < height / 2
        stacked = (across > np.minimum(width, part_width) / 2) & (joined_height <= highest)
        (matches,) = np.nonzero(inside | (close & (stroke | stacked)))
        if len(matches):
            digits[part] = matches[0]
            joint[matches[0]] = joined[matches[0]]
        elif large[part]:
            digits[part] = count
            joint[count] = boxes[part]
            count += 1
    return digits, joint[:count]


def _reading_order(boxes: Boxes) -> list[int]:
    """Return the indices of `boxes` line by line, from left to right. A box is on a line if its
    middle is higher than the bottom of the line's first box."""
    lines: list[list[int]] = []
    for digit in np.argsort(boxes[:, 0] + boxes[:, 2], kind="stable").tolist():
        top, _, bottom, _ = boxes[digit]
        if lines and (top + bottom) / 2 < boxes[lines[-1][0], 2]:
            lines[-1].append(digit)
        else:
            lines.append([digit])
    return [digit for line in lines for digit in sorted(line, key=lambda digit: boxes[digit, 1])]


def as_mnist(ink: Grey) -> Grey:
    """Scale and centre one digit's ink [H, W] in [0, 1] as in MNIST: float32 [28, 28, 1].

    Strokes thinner than THINNEST_STROKE are thickened first.
    """
    left, top, width, height = cv2.boundingRect((ink > 0.1).astype(np.uint8))
    ink = ink[top : top + height, left : left + width]
    pitch = max(ink.shape) / DIGIT_SIDE
    missing = (THINNEST_STROKE * pitch - _stroke_width(_pad(ink, 1) > 0.5)) / 2
    if missing > 0.5:
        ink = _pad(ink, round(missing))
        outside = _distance_to_false(ink <= 0.5)
        ink = np.maximum(ink, np.clip(missing + 0.5 - outside, 0, 1))
        pitch = max(ink.shape) / DIGIT_SIDE
    height, width = (math.ceil(side / pitch - 1e-6) for side in ink.shape)
    padded = Image.fromarray(_pad(ink, math.ceil(pitch)))
    x, y = (padded.width - width * pitch) / 2, (padded.height - height * pitch) / 2
    area = (x, y, padded.width - x, padded.height - y)
    resized = padded.resize((width, height), Image.Resampling.BICUBIC, area)
    small = np.clip(np.asarray(resized), 0, None)
    small = small / small.max()
    y, x = np.arange(height) @ small.sum(axis=1), np.arange(width) @ small.sum(axis=0)
    top = min(max(round(SIDE / 2 - y / small.sum()), 0), SIDE - height)
    left = min(max(round(SIDE / 2 - x / small.sum()), 0), SIDE - width)
    image = np.zeros((SIDE, SIDE, 1), np.float32)
    image[top : top + height, left : left + width, 0] = small
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
