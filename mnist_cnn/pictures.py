"""Pictures of digits, of any kind -> the digits found, as MNIST's makers would have drawn them.

They scaled a digit to fit 20 x 20 pixels, keeping its aspect, and put its centre of mass into the
centre of 28 x 28 (LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/).
"""

import math
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_cnn.errors import InputError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
MAX_PIXELS = 100_000_000
WORKING_SIDE = 1000  # larger pictures are reduced to it

SIDE, DIGIT_SIDE = 28, 20
# A tenth of MNIST's training images have thinner strokes, in pixels at that scale.
THINNEST_STROKE = 1.5
# What the eye takes for ink differs from its ground by more than this share, and than noise does.
LEAST_CONTRAST = 0.08
NOISE_LEVELS = 5

Grey = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int32]
Boxes = npt.NDArray[np.int_]  # a row each: top, left, bottom, right

Picture = Path | BinaryIO

cv2.setNumThreads(1)  # most pictures are too small to share out
Image.MAX_IMAGE_PIXELS = None  # Pillow only warns; MAX_PIXELS is enforced


class Digit(NamedTuple):
    """A digit's image float32 [28, 28, 1] in [0, 1], 1 being ink, and where it was found: left,
    top, right and bottom in pixels of the upright picture, the latter two exclusive."""

    image: Grey
    box: tuple[int, int, int, int]


def find_digits(file: Picture, multiple: bool = False) -> list[Digit]:
    """The digits of a picture in reading order: all of its ink as one, or, with `multiple`, each
    group of strokes that belong together.

    The picture has one of FORMATS; of an animation the first frame counts. Ink may be dark on a
    light ground or the reverse, in any colour, and the light may be uneven.

    Raises:
        InputError: it cannot be read, has more than MAX_PIXELS pixels, or shows no ink.
    """
    grey, reduction = read_grey(file)
    ink = find_ink(grey)
    numbers, boxes = group_strokes(ink > 0.5, multiple)
    digits = []
    for number, (top, left, bottom, right) in enumerate(boxes, start=1):
        # The soft edge of the ink lies outside of where there is more than half of it.
        window = np.s_[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2]
        near = _widened(numbers[window] == number)
        image = as_mnist(np.where(near, ink[window], np.float32(0)))
        left, top, right, bottom = (round(e * reduction) for e in (left, top, right, bottom))
        digits.append(Digit(image, (left, top, right, bottom)))
    if not digits:
        raise InputError("it shows no digit: expected ink that stands out from its ground")
    return digits


def read_grey(file: Picture) -> tuple[Grey, float]:
    """The picture upright, float32 [H, W] in [0, 1] with no side longer than WORKING_SIDE, and the
    factor by which it was reduced for that.

    What is transparent becomes white under dark ink and black under light ink. Of a coloured
    picture the channel with the most contrast is taken.

    Raises:
        InputError: it is no such picture, damaged, or has more than MAX_PIXELS pixels.
    """
    try:
        with Image.open(file, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise InputError(
                    f"it has {width} x {height} pixels: expected at most {MAX_PIXELS:,}; reduce it"
                )
            picture.draft(None, (WORKING_SIDE, WORKING_SIDE))  # decodes a JPEG at a smaller size
            upright = ImageOps.exif_transpose(picture)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes of the decoder
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        if isinstance(error, UnidentifiedImageError):
            reason = "its content is none"
        raise InputError(
            f"it cannot be read as a picture ({reason}): expected {', '.join(FORMATS)}"
        ) from error
    if upright.mode.startswith(("I", "F")):
        pixels = np.asarray(upright, np.float32)
        highest = 65535 if upright.mode.startswith("I") else max(pixels.max(), 1)
        upright = Image.fromarray(pixels / highest * 255)
    elif "A" in upright.getbands() or "transparency" in upright.info:
        upright = upright.convert("RGBA")
    elif upright.mode != "L":
        upright = upright.convert("RGB")
    upright.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    channels = np.atleast_3d(np.asarray(upright, np.float32) / 255)
    if channels.shape[2] == 4:
        colours, opacity = channels[..., :3], channels[..., 3:]
        light_ink = (colours * opacity).mean() > opacity.mean() / 2
        channels = colours * opacity + (0 if light_ink else 1 - opacity)
    chosen = channels.std(axis=(0, 1)).argmax() if channels.shape[2] > 1 else 0
    grey = channels[..., chosen]
    return grey.astype(np.float32), max(width, height) / max(grey.shape)


def find_ink(grey: Grey) -> Grey:
    """How much of each pixel is ink: from a grey picture [H, W] in [0, 1] to the same shape, 0 to
    1, and 0 everywhere if nothing stands out.

    The ground is a smooth surface, as light and paper make it; ink is what differs from it to one
    side. Around what plainly differs, Otsu's threshold (1979,
    https://doi.org/10.1109/TSMC.1979.4310076) parts ink from ground; the ground's median counts as
    no ink, the upper quartile of what lies above the threshold as nothing else.
    """
    photographed = max(grey.shape) > 2 * SIDE
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ground = _smooth_ground(grey) if photographed else np.median(edge)
    contrast = grey - ground
    # Not **3, which takes a hundred times as long.
    if (contrast * contrast * contrast).sum() < 0:  # dark ink: it takes a share of the light
        contrast = -contrast / np.maximum(ground, 0.1)
    noise = 0.0
    if photographed:  # neighbouring pixels differ by noise more often than by strokes
        noise = 1.05 * np.median(np.abs(np.diff(contrast)))
        contrast = cv2.GaussianBlur(contrast, (0, 0), 0.7)
    highest = contrast.max()
    plain = contrast > max(NOISE_LEVELS * noise, LEAST_CONTRAST, 0.3 * highest)
    if not plain.any():
        return np.zeros_like(grey)
    around = _widened(plain)
    values = contrast[around]
    steps = np.clip(values / highest * 255, 0, 255).astype(np.uint8)
    threshold = cv2.threshold(steps, 0, 255, cv2.THRESH_OTSU)[0] / 255 * highest
    none, full = np.median(contrast[~plain]), np.percentile(values[values > threshold], 75)
    ink = np.clip((contrast - none) / (full - none), 0, 1)
    return np.where(around, ink, 0).astype(np.float32)


def _smooth_ground(grey: Grey) -> Grey:
    """The quadratic surface to which most of the picture's margin, a twentieth on each side, is
    closest: least absolute deviations by reweighted least squares (Schlossmacher 1973,
    https://doi.org/10.1080/01621459.1973.10481436)."""
    y, x = np.ogrid[-1 : 1 : grey.shape[0] * 1j, -1 : 1 : grey.shape[1] * 1j]
    every = max(grey.shape) // 100 + 1
    v, u = (np.ravel(c) for c in np.broadcast_arrays(y[::every], x[:, ::every]))
    margin = np.maximum(np.abs(u), np.abs(v)) >= 0.9
    u, v, values = u[margin], v[margin], grey[::every, ::every].ravel()[margin]
    terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v])
    weights = np.ones_like(values)
    for _ in range(10):
        weighted = terms * weights
        a, b, c, d, e, f = solution = np.linalg.lstsq(weighted @ terms.T, weighted @ values)[0]
        weights = 1 / np.maximum(np.abs(solution @ terms - values), 1e-3)
    surface = (a + b * x + d * x * x) + (c * y + f * y * y) + e * y * x
    return np.asarray(surface, np.float32)


def _widened(mask: Mask) -> Mask:
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.dilate(mask.astype(np.uint8), cross, iterations=2).astype(bool)


def group_strokes(mask: Mask, multiple: bool) -> tuple[Labels, Boxes]:
    """Numbers int32 [H, W] for `mask` bool [H, W]: the pixels of the first digit in reading order
    get 1, and so on; the ground and specks 0; and the box of each digit. Without `multiple` all
    belongs to one digit, with it each connected part is one, together with the smaller parts beside
    it."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    left, top, width, height = stats[1:, :4].T
    boxes = np.stack([top, left, top + height, left + width], axis=1)
    sizes = np.maximum(height, width)
    large = sizes >= sizes.max(initial=0) / 8
    if multiple:
        digits = _in_reading_order(boxes, _join_parts(boxes, large))
    else:
        digits = [list(np.flatnonzero(large))] if large.any() else []
    numbers = np.zeros(count, np.int32)
    for number, digit in enumerate(digits, start=1):
        numbers[np.array(digit) + 1] = number
    joint = [_joint_box(boxes[digit]) for digit in digits]
    return numbers[parts], np.array(joint, dtype=int).reshape(-1, 4)


def _join_parts(boxes: Boxes, large: Mask) -> list[list[int]]:
    """Which parts make up which digit. From the highest down, a part joins a digit whose box holds
    more than half of its own, or to which it is close and so low that it is a stroke, not a digit,
    or that stands above or below it, the two being no higher than the highest digit."""
    heights = boxes[:, 2] - boxes[:, 0]
    digits: list[list[int]] = []
    for part in np.argsort(-heights, kind="stable"):
        for digit in digits:
            top, left, bottom, right = _joint_box(boxes[digit])
            height, width = bottom - top, right - left
            top, left, bottom, right = _joint_box(boxes[[*digit, part]])
            # How far the two boxes overlap; less than 0: how far they are apart.
            down = height + heights[part] - (bottom - top)
            part_width = boxes[part, 3] - boxes[part, 1]
            across = width + part_width - (right - left)
            inside = min(down, across) > 0 and down * across > heights[part] * part_width / 2
            close = min(down, across) > -height / 4
            stroke = heights[part] < height / 2
            stacked = across > min(width, part_width) / 2 and bottom - top <= heights.max()
            if inside or (close and (stroke or stacked)):
                digit.append(part)
                break
        else:
            if large[part]:
                digits.append([part])
    return digits


def _in_reading_order(boxes: Boxes, digits: list[list[int]]) -> list[list[int]]:
    """Line by line, from left to right. A digit is on the line of the one above it if its middle is
    higher than that one's foot."""
    lines: list[list[tuple[Boxes, list[int]]]] = []
    extents = [(_joint_box(boxes[digit]), digit) for digit in digits]
    for box, digit in sorted(extents, key=lambda extent: extent[0][0] + extent[0][2]):
        if lines and (box[0] + box[2]) / 2 < lines[-1][0][0][2]:
            lines[-1].append((box, digit))
        else:
            lines.append([(box, digit)])
    return [digit for line in lines for _, digit in sorted(line, key=lambda extent: extent[0][1])]


def _joint_box(boxes: Boxes) -> Boxes:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def as_mnist(ink: Grey) -> Grey:
    """One digit's ink [H, W] in [0, 1] scaled and centred as MNIST's: float32 [28, 28, 1].

    Strokes thinner than nearly all of MNIST's are thickened first.
    """
    left, top, width, height = cv2.boundingRect((ink > 0.1).astype(np.uint8))
    ink = ink[top : top + height, left : left + width]
    pitch = max(ink.shape) / DIGIT_SIDE
    missing = (THINNEST_STROKE * pitch - _stroke_width(_padded(ink, 1) > 0.5)) / 2
    if missing > 0.5:
        ink = _padded(ink, round(missing))
        outside = _distance_to_false(ink <= 0.5)
        ink = np.maximum(ink, np.clip(missing + 0.5 - outside, 0, 1))
        pitch = max(ink.shape) / DIGIT_SIDE
    height, width = (math.ceil(side / pitch - 1e-6) for side in ink.shape)
    padded = Image.fromarray(_padded(ink, math.ceil(pitch)))
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
    """Twice the mean depth of the strokes, none at the edge, along their ridges, in pixels."""
    depth = _distance_to_false(mask)
    ridge = (depth >= cv2.dilate(depth, np.ones((3, 3)))) & (depth > 0)
    return 2 * float(depth[ridge].mean()) - 1


def _padded(ink: Grey, margin: int) -> Grey:
    """`ink` with `margin` pixels of none around it; np.pad takes ten times as long."""
    sides = (margin, margin, margin, margin)
    return np.asarray(cv2.copyMakeBorder(ink, *sides, cv2.BORDER_CONSTANT, value=0), np.float32)


def _distance_to_false(mask: Mask) -> Grey:
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5))
