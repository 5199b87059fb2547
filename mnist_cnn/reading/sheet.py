"""Find a sheet of paper in a photograph and view it straight from above.

A sheet has four straight sides, is mostly smooth, and differs from what it lies on all along its
sides; a shadow's edge or a desk's grain does so only in parts. So sides are proposed by the
outlines of light, smooth or evenly coloured areas and by a Hough transform, and four sides are
chosen together, by how well the picture's edges follow them.
"""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

PICTURE_SIDE = 1000  # pixels; a view is not larger
SEARCH_SIDE = 256  # pixels; sheets are searched in a picture reduced to this
# In pixels at that scale:
WIDEST_STROKE = 9  # narrower dark strokes are removed first
LEAST_SIDE = 30
SAME_LINE, SAME_SHEET = 3, 12  # lines and corners that are nowhere farther apart are the same
LEAST_STEP = 0.03  # of log brightness, from one pixel to the next: a clear edge
DARKNESS = 0.1  # added to brightness before its logarithm, so that noise in black counts little
LINES = 12  # kept in each direction
LEAST_AREA = 0.04  # of the picture
CANDIDATES = 3
BORDER_SUPPORT = 0.6  # how well edges follow the picture's border, where nothing can be seen
LEAST_SUPPORT = 0.62  # of a sheet; where there is none, edges hardly follow the best four sides
DARKER = 0.7  # how much less the sides count of a sheet darker than its surroundings
CUT_MARGIN = 0.025  # of a sheet's sides

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Corners = npt.NDArray[np.float32]  # [4, 2]: x and y, clockwise from the top left
Lines = npt.NDArray[np.float64]  # [N, 3]: a, b, c with a x + b y + c = 0 and a^2 + b^2 = 1


def find_sheets(colours: Floats) -> list[Corners]:
    """Return at most CANDIDATES sheets of paper in a picture float32 [H, W, 3] or [H, W] in [0, 1],
    the most plausible first. Corners may lie outside of the picture."""
    scale = SEARCH_SIDE / max(colours.shape)
    width, height = (round(side * scale) for side in colours.shape[1::-1])
    if min(width, height) < 2 * LEAST_SIDE:
        return []
    small = cv2.resize(colours, (width, height), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small if small.ndim == 3 else np.dstack([small] * 3), (0, 0), 0.8)
    kernel = np.ones((WIDEST_STROKE, WIDEST_STROKE))
    logs = np.log(np.maximum(cv2.morphologyEx(small, cv2.MORPH_CLOSE, kernel), 0) + DARKNESS)
    slopes = [cv2.Sobel(logs, -1, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1))]
    gradient = np.stack(slopes).astype(np.float32)  # [2, H, W, C]
    steepness = np.sqrt((gradient * gradient).sum(axis=0).max(axis=2))
    lines = np.array([*_outline_sides(logs, steepness), *_hough_lines(gradient)]).reshape(-1, 3)
    clear = max(LEAST_STEP, float(np.percentile(steepness[::2, ::2], 75)))
    quads, support = _quadrilaterals(lines, gradient, clear)
    return [
        ((quad + 0.5) / scale - 0.5).astype(np.float32)
        for quad in _most_plausible(quads, support, steepness, clear)
    ]


def _outline_sides(logs: Floats, steepness: Floats) -> Iterator[Doubles]:
    """Yield straight sides of the outlines of light, smooth or evenly coloured areas."""
    red, green, blue = cv2.split(logs)
    steps = np.clip(steepness * 2550, 0, 255).astype(np.uint8)
    # A median leaves out single edges, such as a shadow's.
    smooth = -cv2.GaussianBlur(np.log(cv2.medianBlur(steps, 11) + np.float32(25)), (0, 0), 1)
    chroma = [red - green, green - red, blue - (red + green) / 2, (red + green) / 2 - blue]
    lightness = np.exp(logs.min(axis=2))
    for values, levels in [(lightness, 7), (smooth, 5), *((values, 3) for values in chroma)]:
        low, high = np.percentile(values[::2, ::2], (2, 98))
        for level in np.linspace(low, high, levels + 2)[1:-1]:
            mask = (values > level).astype(np.uint8)
            mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5)))
            contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            for contour in sorted(contours, key=cv2.contourArea)[-2:]:
                yield from _straight_sides(contour, steepness.shape)


def _straight_sides(contour: npt.NDArray[Any], shape: tuple[int, int]) -> Iterator[Doubles]:
    """Yield a line for each long side of the contour's convex hull, fitted to the contour's points
    near it, without those on the picture's border."""
    points = contour[:, 0].astype(np.float32)
    points = points[((points > 1) & (points < (shape[1] - 2, shape[0] - 2))).all(axis=1)]
    hull = cv2.approxPolyDP(cv2.convexHull(contour), 4, True)[:, 0].astype(np.float32)
    for start, side in zip(hull, np.roll(hull, -1, axis=0) - hull, strict=True):
        length = float(np.hypot(*side))
        if length < LEAST_SIDE:
            continue
        along, aside = ((points - start) @ np.array([[side[0], -side[1]], side[::-1]])).T / length
        near = points[(np.abs(aside) < 4) & (np.abs(along / length - 0.5) < 0.45)]
        if len(near) > LEAST_SIDE / 2:
            dx, dy, x, y = cv2.fitLine(near, cv2.DIST_HUBER, 0, 0.1, 0.1)[:, 0]
            yield np.array((-dy, dx, dy * x - dx * y))


def _hough_lines(gradient: Floats) -> Iterator[Doubles]:
    """Yield the lines with the most edge pixels (Canny's, in the channel that is steepest)."""
    channel = np.abs(gradient).sum(axis=0).argmax(axis=2)[np.newaxis, ..., np.newaxis]
    thousandths = np.take_along_axis(gradient, channel, axis=3)[..., 0] * 1000
    dx, dy = np.ascontiguousarray(thousandths).astype(np.int16)
    edges = cv2.Canny(dx, dy, 1000 * LEAST_STEP / 3, 1000 * LEAST_STEP)
    found = cv2.HoughLines(edges, 1, np.pi / 180, LEAST_SIDE)
    for distance, angle in () if found is None else found.reshape(-1, found.shape[-1])[:60, :2]:
        yield np.array((np.cos(angle), np.sin(angle), -distance))


def _quadrilaterals(lines: Lines, gradient: Floats, clear: float) -> tuple[Doubles, Doubles]:
    """Return quadrilaterals float64 [N, 4, 2] with sides on `lines` or the picture's border, and
    how well edges follow them [N], from 0 to 1. A step of `clear` is a full edge."""
    level = np.abs(lines[:, 1]) > np.abs(lines[:, 0])
    rows, row_sums = _strongest(lines[level], gradient, clear)
    turned = gradient[::-1].swapaxes(1, 2)
    columns, column_sums = _strongest(lines[~level][:, [1, 0, 2]], turned, clear)
    crossings = np.cross(rows[:, np.newaxis], columns[:, [1, 0, 2]])
    points = crossings[..., :2] / (crossings[..., 2:] - 1e-9)  # [rows, columns, 2]
    row_support = _support(row_sums, points[..., 0])
    column_support = _support(column_sums, points[..., 1].T)
    pairs = [np.triu_indices(len(part), 1) for part in (rows, columns)]
    (top, bottom), (left, right) = (
        (first[index], second[index])
        for (first, second), index in zip(
            pairs, np.indices([len(first) for first, _ in pairs]).reshape(2, -1), strict=True
        )
    )
    ends = [(top, left), (top, right), (bottom, right), (bottom, left)]
    quads = np.stack([points[end] for end in ends], axis=1)
    support = (
        row_support[0, top, left, right]
        * row_support[1, bottom, left, right]
        * column_support[0, left, top, bottom]
        * column_support[1, right, top, bottom]
    )
    return quads, support**0.25


def _strongest(lines: Lines, gradient: Floats, clear: float) -> tuple[Lines, Doubles]:
    """Choose among lines that are nearly level, and add the picture's upper and lower border.

    Return the lines from top to bottom, and sums along them of the steps across in each channel,
    from -1 to 1, and of the pixels in the picture, at every other column: [N, 1 + W / 2, C + 1].
    """
    height, width = gradient.shape[1:3]
    border = [(0, 1, 0), (0, 1, 1 - height)]
    lines = np.vstack([border, lines * np.sign(lines[:, 1:2])])
    x = np.arange(0, width, 2)
    y = -(lines[:, :1] * x + lines[:, 2:]) / lines[:, 1:2]
    across = np.zeros((*y.shape, gradient.shape[3]))
    for offset in (-0.7, 0, 0.7):
        row = np.clip(np.round(y + offset).astype(int), 0, height - 1)
        slope = (lines[:, :2].T[..., np.newaxis, np.newaxis] * gradient[:, row, x]).sum(axis=0)
        across = np.where(np.abs(slope) > np.abs(across), slope, across)
    seen = (y > -0.5) & (y < height - 0.5)
    steps = np.dstack([np.clip(across / clear, -1, 1), np.ones_like(y)]) * seen[..., np.newaxis]
    # The longest run of clear edges; lines proposed often are stable.
    gain = np.abs(cv2.blur(steps[..., :3], (15, 1)).reshape(*y.shape, 3)).max(axis=2) - 0.4
    total = np.pad(gain.cumsum(axis=1), ((0, 0), (1, 0)))
    run = (total - np.minimum.accumulate(total, axis=1)).max(axis=1, initial=1)
    apart = np.abs(y[:, np.newaxis, [0, -1]] - y[:, [0, -1]]).max(axis=2)
    strength = run * (apart < SAME_LINE).sum(axis=1)
    steps[:2] = np.append(np.full(gradient.shape[3], BORDER_SUPPORT), 1)
    steps[1, :, :-1] *= -1
    kept = [0, 1]
    for line in np.argsort(-strength):
        if len(kept) < LINES + 2 and (apart[line, kept] > SAME_LINE).all():
            kept.append(line)
    lines, steps = lines[kept], steps[kept]
    order = np.argsort(-(lines[:, 0] * width / 2 + lines[:, 2]) / lines[:, 1])
    return lines[order], np.pad(steps[order].cumsum(axis=1), ((0, 0), (1, 0), (0, 0)))


def _support(sums: Doubles, crossings: Doubles) -> Doubles:
    """Return how well edges follow each of N lines between two of its M crossings, at columns
    `crossings` [N, M], if the sheet is below it and if it's above: [2, N, M, M]."""
    at = np.clip(np.round(crossings / 2).astype(int), 0, sums.shape[1] - 1)
    reached = np.take_along_axis(sums, at[..., np.newaxis], axis=1)
    between = reached[:, np.newaxis] - reached[:, :, np.newaxis]
    steps = between[..., :-1] / np.maximum(between[..., -1:], 1)
    rise, fall = steps.max(axis=3), -steps.min(axis=3)
    support = np.stack([np.maximum(rise, DARKER * fall), np.maximum(fall, DARKER * rise)])
    return np.where(between[..., -1] < 5, BORDER_SUPPORT, np.maximum(support, 0.01))


def _most_plausible(
    quads: Doubles, support: Doubles, steepness: Floats, clear: float
) -> Iterator[Doubles]:
    """Yield up to CANDIDATES of `quads` [N, 4, 2]: large, smooth inside and with edges all along
    their sides [N]."""
    size = np.array(steepness.shape[::-1]) - 1
    sides = np.roll(quads, -1, axis=1) - quads
    lengths = np.linalg.norm(sides, axis=2)
    following = np.roll(sides, -1, axis=1)
    turns = sides[..., 0] * following[..., 1] - sides[..., 1] * following[..., 0]
    fit = (turns > 0.7 * lengths * np.roll(lengths, -1, axis=1)).all(axis=1)
    fit &= (support > LEAST_SUPPORT) & (lengths > LEAST_SIDE).all(axis=1)
    fit &= (np.abs(quads / size - 0.5) < 1.1).all(axis=(1, 2))
    quads, support = quads[fit], support[fit]
    x, y = np.clip(quads, 0, size).transpose(2, 0, 1)
    area = (x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1) / 2 / size.prod()
    score = support * np.clip(area, 0, 1) ** 0.25 * ((area > LEAST_AREA) & (area < 0.97))
    first = np.argsort(-score)[:500]
    quads, score = quads[first], score[first]
    grid = np.linspace(0.05, 0.95, 10)
    u, v = (part.reshape(-1, 1) for part in np.meshgrid(grid, grid))
    weights = np.hstack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v])
    inner = weights @ quads  # [N, 100, 2]
    column, row = np.clip(np.round(inner), 0, size).astype(int).transpose(2, 0, 1)
    seen = ((inner >= 0) & (inner <= size)).all(axis=2)
    uneven = np.minimum(steepness[row, column] / clear, 1) * seen
    score *= 1 - uneven.sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    for _ in range(CANDIDATES):
        if score.max(initial=0) > 0:
            best = quads[score.argmax()]
            yield best
            score[np.abs(quads - best).max(axis=(1, 2)) < SAME_SHEET] = 0


def rectify(colours: Floats, corners: Corners) -> tuple[Floats, Doubles]:
    """View a sheet from straight above: the part of it that is in the picture, without a margin of
    CUT_MARGIN of the sheet's sides. Also return the homography from the picture to the view."""
    height, width = colours.shape[:2]
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    across, down = (sides[:2] + sides[2:]) / 2
    target = np.array([[0, 0], [across, 0], [across, down], [0, down]], np.float32)
    homography = cv2.getPerspectiveTransform(np.asarray(corners, np.float32), target)
    frame = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
    _, seen = cv2.intersectConvexConvex(np.asarray(corners, np.float32), frame)
    if seen is None:
        seen = frame[:, np.newaxis]
    seen = cv2.perspectiveTransform(seen.astype(np.float32), homography)[:, 0]
    cut = CUT_MARGIN * np.array((across, down))
    low = np.maximum(seen.min(axis=0), cut)
    size = np.maximum(np.minimum(seen.max(axis=0), (across, down) - cut) - low, 1)
    scale = min(1.0, PICTURE_SIDE / size.max())
    move = np.array([[scale, 0, -scale * low[0]], [0, scale, -scale * low[1]], [0, 0, 1]])
    homography = move @ homography
    shape = (max(round(size[0] * scale), 1), max(round(size[1] * scale), 1))
    view = cv2.warpPerspective(colours, homography, shape, borderMode=cv2.BORDER_REPLICATE)
    if (corners < 0).any() or (corners > (width - 1, height - 1)).any():
        ones = np.ones((height, width), np.uint8)
        inside = cv2.warpPerspective(ones, homography, shape, flags=cv2.INTER_NEAREST)
        inside = cv2.erode(inside, np.ones((3, 3)))
        if inside.any() and not inside.all():
            view = _continue(view, inside)
    return np.asarray(view, np.float32), np.asarray(homography, np.float64)


def _continue(view: npt.NDArray[Any], inside: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Give each pixel outside of the picture the colours of the nearest pixel inside."""
    _, nearest = cv2.distanceTransformWithLabels(
        1 - inside, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    pixels = np.zeros(int(nearest.max()) + 1, np.int64)
    pixels[nearest[inside > 0]] = np.flatnonzero(inside)
    continued: npt.NDArray[Any] = view.reshape(-1, *view.shape[2:])[pixels[nearest]]
    return continued
