"""Tell ink from its background."""

import cv2
import numpy as np
import numpy.typing as npt

PHOTOGRAPH_SIDE = 56  # pixels; smaller pictures are taken for images like MNIST's
# Ink differs from the background by at least this share of the full range, and by this many times
# the noise.
LEAST_CONTRAST = 0.08
NOISE_LEVELS = 5
LIGHT_PAPER = 0.45  # on lighter paper, ink is dark

Grey = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def find_ink(grey: Grey, widest_stroke: float | None = None) -> Grey:
    """Return how much of each pixel is ink, in [0, 1], for a grey picture [H, W] in [0, 1]; 0
    everywhere if nothing stands out. Ink is either darker or lighter than its background.

    Without `widest_stroke`, the background is a smooth surface, like paper in soft light. With it,
    as a share of the picture's longer side, the background is what is left without strokes up to
    that width, which follows the hard edges of shadows; rules, squares and what touches the
    picture's border are then erased.

    Otsu's threshold (1979, https://doi.org/10.1109/TSMC.1979.4310076) separates ink from background
    around the clearest ink. The median of the background becomes 0, and the upper quartile of the
    values above the threshold becomes 1.
    """
    noise = 0.0
    if max(grey.shape) <= PHOTOGRAPH_SIDE or min(grey.shape) == 1:
        edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
        background = np.full_like(grey, np.median(edge))
        contrast = _contrast(grey, background, _is_dark(grey - background))
    elif widest_stroke is None or min(grey.shape) <= PHOTOGRAPH_SIDE:
        background = _fit_background(grey)
        contrast = _contrast(grey, background, _is_dark(grey - background))
        contrast, noise = _denoise(contrast)
    else:
        contrast, noise = _denoise(_contrast(grey, *_local_background(grey, widest_stroke)))
        contrast = _without_border(_without_rules(contrast, noise))
    highest = float(contrast.max())
    clear = contrast > max(NOISE_LEVELS * noise, LEAST_CONTRAST, 0.3 * highest)
    if clear.all() or not clear.any():
        return np.zeros_like(grey)
    around = dilate(clear)
    values = contrast[around]
    steps = np.clip(values / highest * 255, 0, 255).astype(np.uint8)
    threshold = cv2.threshold(steps, 0, 255, cv2.THRESH_OTSU)[0] / 255 * highest
    zero, one = np.median(contrast[~clear]), np.percentile(values[values > threshold], 75)
    ink = np.clip((contrast - zero) / (one - zero), 0, 1)
    return np.where(around, ink, 0).astype(np.float32)


def _is_dark(difference: npt.NDArray[np.floating]) -> bool:
    # `difference**3` would take a hundred times as long.
    return bool((difference * difference * difference).sum() < 0)


def _contrast(grey: Grey, background: Grey, dark: bool) -> Grey:
    if dark:  # ink absorbs a share of the light
        return np.asarray((background - grey) / np.maximum(background, 0.1), np.float32)
    return np.asarray(grey - background, np.float32)


def _denoise(contrast: Grey) -> tuple[Grey, float]:
    """Blur a little; also return how much neighbouring pixels differed, most of them by noise."""
    noise = 1.05 * float(np.median(np.abs(np.diff(contrast))))
    return np.asarray(cv2.GaussianBlur(contrast, (0, 0), 0.7), np.float32), noise


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


def _local_background(grey: Grey, widest_stroke: float) -> tuple[Grey, bool]:
    """Return what a morphological closing leaves of the picture or, if the ink isn't dark, an
    opening; and whether it is dark."""
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    half = cv2.GaussianBlur(half, (0, 0), 1)
    size = max(round(max(half.shape) * widest_stroke), 3)
    quarter = cv2.resize(half, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    steps = np.clip(quarter * 255, 0, 255).astype(np.uint8)
    around = cv2.medianBlur(steps, size // 2 * 2 + 1).astype(np.float32) / 255
    inner = np.s_[size // 4 : -(size // 4) or None]
    darker = _is_dark((quarter / np.maximum(around, 0.1) - 1)[inner, inner])
    dark = darker or float(np.median(quarter)) > LIGHT_PAPER
    grow, shrink = (cv2.dilate, cv2.erode) if dark else (cv2.erode, cv2.dilate)
    # Shrinking by more keeps a shadow's edge from looking like ink.
    surface = shrink(grow(half, np.ones((size, size))), np.ones((size + 4, size + 4)))
    surface = cv2.resize(surface, grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return (np.maximum if dark else np.minimum)(surface, grey), dark


def _without_border(contrast: Grey) -> Grey:
    """Erase what touches the picture's border, such as the tips of shadows."""
    mask = (contrast > max(LEAST_CONTRAST, 0.15 * float(contrast.max()))).astype(np.uint8)
    cut = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3)))  # off remains of rules
    _, parts, stats, _ = cv2.connectedComponentsWithStats(cut)
    left, top, width, height = stats[:, :4].T
    at_border = (left < 3) | (top < 3)
    at_border |= (left + width > mask.shape[1] - 3) | (top + height > mask.shape[0] - 3)
    at_border[0] = False
    return np.where(dilate(at_border[parts]), 0, contrast).astype(np.float32)


def _without_rules(contrast: Grey, noise: float) -> Grey:
    """Erase a paper's rules or squares, from ink [H, W]: thin lines from side to side. Where a rule
    crosses a stroke, the stroke stays: it is longer than a rule is thick, across the rule, so that
    it survives a morphological opening, or darker than the rule."""
    step = max(contrast.shape) // 500 + 1
    small = cv2.resize(contrast, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
    for turned in (False, True):
        rules = _find_rules(np.ascontiguousarray(small.T if turned else small), noise)
        if not rules:
            continue
        size = step * int(np.median([thickness for _, thickness in rules]))
        kernel = np.ones((1, size) if turned else (size, 1))
        highest = cv2.dilate(contrast, kernel)
        darkness = np.zeros_like(contrast)
        for points, thickness in rules:
            line = (points[:, ::-1] if turned else points) * step
            usual = float(np.median(highest[line[:, 1], line[:, 0]]))
            cv2.polylines(darkness, [line + step // 2], False, usual, step * thickness)
        stroke = np.maximum(cv2.morphologyEx(contrast, cv2.MORPH_OPEN, kernel), contrast - darkness)
        contrast = np.where(darkness > 0, stroke, contrast).astype(np.float32)
    return contrast


def _find_rules(contrast: Grey, noise: float) -> list[tuple[npt.NDArray[np.int32], int]]:
    """Return the points (x, y) and the thickness of each rule that is nearly along the rows; none
    if none is from side to side."""
    height, width = contrast.shape
    rules: list[tuple[npt.NDArray[np.int32], int]] = []
    thickest = max(max(height, width) // 110, 2) * 2 + 1
    thin = contrast - cv2.morphologyEx(contrast, cv2.MORPH_OPEN, np.ones((thickest, 1)))
    mask = (thin > max(1.5 * noise, 0.015, 0.1 * float(contrast.max()))).astype(np.uint8)
    runs = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((1, width // 50 + 1)))
    joined = cv2.morphologyEx(runs, cv2.MORPH_CLOSE, np.ones((1, width // 15 + 1)))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(joined)
    if not (stats[1:, 2] > 0.85 * width).any():
        return rules
    for part in np.flatnonzero(stats[1:, 2] > 0.4 * width) + 1:
        left, top, wide, high, _ = stats[part]
        window = np.s_[top : top + high, left : left + wide]
        here = parts[window] == part
        counts = here.sum(axis=0)
        x = np.flatnonzero(counts)
        y = (np.arange(high) @ here)[x] / counts[x]
        near = np.ones(len(x), bool)
        for limit in (thickest, 2):  # leave out what is attached to the rule
            curve = np.polyfit(x[near] / wide, y[near], 2)
            near = np.abs(np.polyval(curve, x / wide) - y) < limit
            if near.sum() < wide / 2:
                break
        else:
            # From side to side, if the rule goes on behind a digit.
            for column in (np.arange(width), x + left):
                row = np.round(np.polyval(curve, (column - left) / wide)).astype(int) + top
                row = np.clip(row, 0, height - 1)
                if mask[row, column].mean() > 0.7:
                    points = np.stack([column, row], axis=1).astype(np.int32)
                    rules.append((points, 2 * int(np.median(counts[x][near]) / 2) + 3))
                    break
    return rules


def dilate(mask: Mask) -> Mask:
    """Add the pixels up to two steps away."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.dilate(mask.astype(np.uint8), cross, iterations=2).astype(bool)
