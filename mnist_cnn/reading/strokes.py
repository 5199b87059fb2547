"""Group strokes into digits."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from mnist_cnn.errors import InputError
from mnist_cnn.reading.ink import Mask

MAX_PARTS = 5000

Components = npt.NDArray[np.int32]
Boxes = npt.NDArray[np.int32]  # [N, 4]: top, left, bottom, right; the last two exclusive


def group_strokes(mask: Mask, multiple: bool) -> tuple[Components, Boxes]:
    """Group the connected parts of `mask` bool [H, W] into digits, in no particular order: labels
    [H, W], 1 for the first digit and so on, 0 for the background and specks; and the digits' boxes.

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
    if not multiple:
        large = sizes >= sizes.max() / 8
        enclosing = [*boxes[large, :2].min(axis=0), *boxes[large, 2:].max(axis=0)]
        return np.append(False, large)[parts].astype(np.int32), np.array([enclosing], np.int32)
    if len(boxes) > MAX_PARTS:
        raise InputError(
            f"it shows {len(boxes):,} separate marks: expected at most {MAX_PARTS:,}; crop it to "
            "fewer digits"
        )
    # What touches the border may be larger than all digits, such as a line or a shadow.
    usual = (boxes[:, :2].min(axis=1) > 0) & (boxes[:, 2:] < mask.shape).all(axis=1)
    usual |= not usual.any()
    large = sizes >= sizes[usual].max() / 8
    digits, digit_boxes = _join_parts(boxes, large, height[usual].max())
    return np.append(0, digits + 1)[parts].astype(np.int32), digit_boxes


def _join_parts(boxes: Boxes, large: Mask, tallest: int) -> tuple[npt.NDArray[np.int_], Boxes]:
    """Return the index of each part's digit, or -1, and the digits' boxes.

    Parts are visited from the tallest to the shortest. A part joins a digit whose box covers more
    than half of its own. It also joins one that is close by for the size of both, if it is too
    short to be a digit itself. And it joins one that is closely above or below it, if the two
    together are not much taller than `tallest`. Of several digits, it joins the one that it
    overlaps most from left to right.
    """
    heights, widths = (boxes[:, 2:] - boxes[:, :2]).T
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
        close = overlap > -np.minimum(height, 2 * max(part_height, part_width)) / 4
        stroke = part_height < height / 2
        above_or_below = (down > -tallest / 4) & (across > np.minimum(width, part_width) / 2)
        stacked = above_or_below & (joined_height <= 1.2 * tallest)
        (matches,) = np.nonzero(inside | (close & stroke) | stacked)
        if len(matches):
            match = matches[across[matches].argmax()]
            digits[part] = match
            joint[match] = joined[match]
        elif large[part]:
            digits[part] = count
            joint[count] = boxes[part]
            count += 1
    return digits, joint[:count]


def reading_order(boxes: Sequence[tuple[int, int, int, int]]) -> list[int]:
    """Return the indices of the digits' `boxes` (left, top, right, bottom) line by line, from left
    to right. A box continues the line whose last box overlaps it most, if that is more than half of
    the lower one's height: so lines may slope."""
    left, top, _, bottom = np.array(boxes).T
    lines: list[list[int]] = []
    for digit in np.argsort(left, kind="stable").tolist():
        last = [line[-1] for line in lines]
        overlap = np.minimum(bottom[last], bottom[digit]) - np.maximum(top[last], top[digit])
        share = overlap / np.minimum(bottom[last] - top[last], bottom[digit] - top[digit])
        if share.max(initial=0) > 0.5:
            lines[share.argmax()].append(digit)
        else:
            lines.append([digit])
    lines.sort(key=lambda line: top[line].mean() + bottom[line].mean())
    return [digit for line in lines for digit in line]
