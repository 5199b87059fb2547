"""Draw what the reader's network is trained on: digits, touching pairs of digits, and other things.

A drawing is ink float32 [H, W] in [0, 1]. All choices come from a random generator.
"""

import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

Ink = npt.NDArray[Any]  # mostly float32
Points = npt.NDArray[np.float64]  # [N, 2]: x and y
Random = np.random.Generator

SIDE = 96  # pixels of a drawing

FONTS = Path(matplotlib.get_data_path(), "fonts", "ttf")
FACES = (
    "DejaVuSans",
    "DejaVuSerif",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSans-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralItalic",
    "cmr10",
    "cmmi10",
    "cmss10",
    "cmtt10",
)
# Without letters that look like digits, such as O, l, S, Z, b, g and q.
LATIN = "ABCDEFGHJKLMNPQRTUVWXYacdefhijkmnprtuvwxy"

# Strokes through points (x, y) in percent: digits in forms that are rare in MNIST, such as ones
# with a flag or a foot, crossed sevens, open fours and slashed zeros. Those of STRAIGHT digits are
# straight between the points, the others are curved.
STRAIGHT = (1, 4, 7)
STROKES = {
    0: (
        "50,5 20,25 15,60 35,92 65,92 85,60 80,25 50,5",
        "50,5 20,25 15,60 35,92 65,92 85,60 80,25 50,5; 75,15 25,85",
    ),
    1: (
        "10,45 60,5 60,95",
        "20,40 55,5 50,95; 20,95 80,95",
        "30,30 55,5 55,95",
        "25,35 55,5 55,95; 25,95 85,95",
        "50,5 50,95",
        "10,55 60,5 60,95",
        "35,20 55,5 55,95; 35,95 75,95",
    ),
    2: (
        "18,25 45,5 78,22 65,52 35,78 15,93; 15,93 50,93 90,93",
        "15,20 50,5 80,25 50,60 20,85 25,95 40,85 60,92 90,90",
    ),
    3: (
        "18,15 50,5 78,22 60,43 40,47; 40,47 75,55 82,78 50,95 15,85",
        "15,8 50,7 82,7; 82,7 60,27 45,42; 45,42 75,50 82,75 50,95 15,85",
    ),
    4: (
        "30,5 15,60 85,60; 65,30 62,95",
        "25,5 20,50 80,50; 75,5 70,95",
        "65,95 65,5 10,65 90,65",
        "55,5 10,60 90,60; 60,35 60,95",
    ),
    5: (
        "80,7 50,7 28,8; 28,8 25,28 22,45; 22,45 55,38 82,60 65,90 30,95 12,83",
        "25,10 24,28 22,48; 22,48 55,40 80,65 55,92 15,88; 25,10 50,9 85,6",
    ),
    6: (
        "70,5 35,30 17,65 35,93 70,88 78,65 55,52 25,65",
        "40,5 22,40 20,75 45,95 75,80 65,58 40,58 22,72",
    ),
    7: (
        "15,10 85,8 40,95; 30,50 80,50",
        "15,20 15,8 85,8 40,95; 25,50 75,48",
        "15,10 85,8 55,50 45,95; 30,52 75,48",
        "15,25 20,8 85,8 45,95",
    ),
    8: ("75,20 50,5 25,22 45,45 75,68 60,93 35,93 22,72 50,47 75,28 72,15",),
    9: (
        "78,25 50,5 22,25 35,48 65,45 78,22; 78,22 77,55 75,95",
        "78,22 50,5 22,25 35,48 65,45 78,20 75,70 50,95 20,88",
    ),
}


# Digits


def enlarge(image: npt.NDArray[np.uint8]) -> Ink:
    """Enlarge one of MNIST's images to a drawing with smooth edges."""
    large = cv2.resize(image.astype(np.float32) / 255, (84, 84), interpolation=cv2.INTER_CUBIC)
    large = np.pad(cv2.GaussianBlur(large, (0, 0), 1.2), (SIDE - 84) // 2)
    return np.asarray(np.clip((large - 0.5) * 3 + 0.5, 0, 1))


def draw_digit(random: Random) -> tuple[Ink, int]:
    """Draw one of the STROKES, with its points moved a little. More than half are STRAIGHT."""
    digit = int(random.choice(STRAIGHT) if random.random() < 0.45 else random.integers(10))
    form = STROKES[digit][random.integers(len(STROKES[digit]))]
    moved: dict[str, Points] = {}  # strokes that share a point stay together
    strokes = []
    for stroke in form.split(";"):
        for point in stroke.split():
            if point not in moved:
                place = np.array([float(percent) for percent in point.split(",")]) / 100
                moved[point] = place + random.normal(0, 0.035, 2)
        points = np.array([moved[point] for point in stroke.split()])
        points = (points * (0.6, 0.8) + (0.2, 0.1)) * SIDE
        strokes.append(_bend(points, random) if digit in STRAIGHT else spline(points))
    return draw_strokes(strokes, np.exp(random.uniform(1.1, 2.6))), digit


def _bend(points: Points, random: Random) -> Points:
    """Join points by lines that are nearly straight."""
    along = np.linspace(0, 1, 8)[:, np.newaxis]
    lines = [
        start + (end - start) * along + np.sin(np.pi * along) * random.normal(0, 1.2, 2)
        for start, end in pairwise(points)
    ]
    return np.vstack(lines)


def spline(points: Points) -> Points:
    """Join points by a smooth curve (Catmull and Rom 1974,
    https://doi.org/10.1016/B978-0-12-079050-0.50020-5)."""
    ends = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = np.linspace(0, 1, max(60 // (len(points) - 1), 4))[:, np.newaxis]
    curve = [
        b
        + (c - a) * t / 2
        + (2 * a - 5 * b + 4 * c - d) * t**2 / 2
        + (3 * (b - c) + d - a) * t**3 / 2
        for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False)
    ]
    return np.vstack(curve)


def draw_strokes(strokes: list[Points], width: float) -> Ink:
    """Draw strokes through points in pixels, `width` pixels wide."""
    drawing = np.zeros((SIDE, SIDE), np.uint8)
    for stroke in strokes:
        points = np.round(stroke * 16).astype(np.int32)
        cv2.polylines(drawing, [points], False, 255, max(round(width), 1), cv2.LINE_AA, shift=4)
    return drawing.astype(np.float32) / 255


# Other things


def draw_letter(random: Random) -> Ink:
    """Draw a letter that doesn't look like a digit: Latin or, a little more often, of any alphabet
    in FACES."""
    if random.random() < 0.45:
        letter = LATIN[random.integers(len(LATIN))]
        if random.random() < 0.5:
            return _hershey(letter, random)
        face = FACES[random.integers(len(FACES))]
    else:
        face = FACES[random.integers(8)]
        letter = alphabets(face)[random.integers(len(alphabets(face)))]
    drawing = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(drawing).text((SIDE / 2, SIDE / 2), letter, 255, _font(face), "mm")
    return np.asarray(drawing, np.float32) / 255


def _hershey(letter: str, random: Random) -> Ink:
    """Draw a letter in one of OpenCV's Hershey fonts, which consist of strokes."""
    italic = cv2.FONT_ITALIC if random.random() < 0.4 else 0
    face = int(random.integers(8)) | italic
    (width, height), _ = cv2.getTextSize(letter, face, 2.2, 3)
    place = ((SIDE - width) // 2, (SIDE + height) // 2)
    drawing = np.zeros((SIDE, SIDE), np.uint8)
    cv2.putText(drawing, letter, place, face, 2, 255, int(random.integers(2, 8)), cv2.LINE_AA)
    return drawing.astype(np.float32) / 255


@cache
def _font(face: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONTS / f"{face}.ttf", 64)


@cache
def alphabets(face: str) -> list[str]:
    """Return a font's letters that have no accent."""
    letters = map(chr, FT2Font(str(FONTS / f"{face}.ttf")).get_charmap())
    return [
        letter
        for letter in letters
        if unicodedata.category(letter) in ("Lu", "Ll", "Lo", "Lt")
        and not unicodedata.decomposition(letter)
        and len(unicodedata.normalize("NFD", letter)) == 1
    ]


def draw_scribble(random: Random) -> Ink:
    """Draw one to four strokes: corners, zigzags, loops, or curves."""
    kind = random.integers(5)
    strokes = []
    for _ in range(random.choice([1, 1, 1, 2, 2, 3, 4])):
        count = int(random.integers(3, 12))
        points = random.uniform(15, 81, (count, 2))
        if kind == 1:
            heights = random.uniform(8, 33) * np.where(np.arange(count) % 2, 1, -1)
            x, y = np.linspace(15, 81, count), 48 + heights + random.normal(0, 5, count)
            points = np.stack([x, y] if random.random() < 0.5 else [y, x], axis=1)
        elif kind == 2:
            t = np.linspace(0, 2 * np.pi * random.uniform(1.5, 5), 20)
            x = np.linspace(20, 76, 20) + random.uniform(6, 18) * np.cos(t)
            points = np.stack([x, 48 + random.uniform(10, 30) * np.sin(t)], axis=1)
        elif kind == 3:
            points = np.cumsum(random.normal(0, 16, (count, 2)), axis=0)
            points = 15 + 66 * (points - points.min(axis=0)) / max(np.ptp(points, axis=0).max(), 1)
        strokes.append(points if kind == 4 else spline(points))
    return draw_strokes(strokes, random.uniform(2, 9))


def draw_sign(random: Random) -> Ink:
    """Draw a dash, plus, cross, box, triangle, tick, equals sign, arrow or star."""
    a, b = random.uniform(20, 34, 2)
    signs: list[list[list[tuple[float, float]]]] = [
        [[(-a, 0), (a, 0)]],
        [[(-a, 0), (a, 0)], [(0, -b), (0, b)]],
        [[(-a, -b), (a, b)], [(-a, b), (a, -b)]],
        [[(-a, -b), (a, -b), (a, b), (-a, b), (-a, -b)]],
        [[(0, -b), (a, b), (-a, b), (0, -b)]],
        [[(-a, 0), (-a / 3, b / 2), (a, -b)]],
        [[(-a, -8), (a, -8)], [(-a, 8), (a, 8)]],
        [[(-a, 0), (a, 0)], [(a - 12, -10), (a, 0), (a - 12, 10)]],
        [_star(a, int(random.integers(5, 8)))],
    ]
    sign = signs[random.integers(len(signs))]
    strokes = [
        SIDE / 2 + np.array(stroke) + random.normal(0, 2.5, (len(stroke), 2)) for stroke in sign
    ]
    return draw_strokes(strokes, random.uniform(2.5, 9))


def _star(radius: float, points: int) -> list[tuple[float, float]]:
    turns = [
        (np.pi * (i / points - 0.5), radius * (0.45 if i % 2 else 1)) for i in range(2 * points + 1)
    ]
    return [(float(r * np.cos(angle)), float(r * np.sin(angle))) for angle, r in turns]


def draw_shape(random: Random) -> Ink:
    """Draw a filled shape in uneven grey: symmetric, like clothes, or any polygon."""
    drawing = np.zeros((SIDE, SIDE), np.uint8)
    middle = SIDE // 2
    if random.random() < 0.5:
        for _ in range(random.integers(2, 6)):
            near, top = int(random.integers(34)), int(random.integers(8, 60))
            far, bottom = int(random.integers(near + 4, 48)), int(random.integers(top + 6, 92))
            grey = int(random.integers(90, 256))
            cv2.rectangle(drawing, (middle - far, top), (middle - near, bottom), grey, -1)
            cv2.rectangle(drawing, (middle + near, top), (middle + far, bottom), grey, -1)
    else:
        count = int(random.integers(3, 10))
        angles, radii = np.sort(random.uniform(0, 2 * np.pi, count)), random.uniform(10, 40, count)
        x, y = radii * np.cos(angles) * random.uniform(0.5, 1), radii * np.sin(angles)
        points = middle + np.stack([x, y], axis=1)
        if random.random() < 0.5:
            points = spline(np.vstack([points, points[:1]]))
        cv2.fillPoly(drawing, [np.round(points).astype(np.int32)], 255, cv2.LINE_AA)
    coarse = random.uniform(0.3, 1, random.integers(2, 12, 2)).astype(np.float32)
    texture = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return drawing.astype(np.float32) / 255 * np.clip(texture, 0.25, 1)


# Handwriting, and pictures of it


def distort(ink: Ink, random: Random) -> Ink:
    """Turn, slant, stretch and bend a drawing a little (elastic distortion: Simard, Steinkraus and
    Platt 2003, https://doi.org/10.1109/ICDAR.2003.1227801)."""
    height, width = ink.shape
    angle, slant, stretch = random.normal(0, np.array([np.radians(6), 0.125, 0.125]))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back = turn @ np.array([[1, slant], [0, 1]]) @ np.diag([np.exp(-stretch), 1])
    knots = int(random.integers(3, 6))
    coarse = random.normal(0, 3 * random.random(), (knots, knots, 2)).astype(np.float32)
    bend = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:height, :width] - (SIDE - 1) / 2
    source = np.stack([x, y], axis=2) @ back.T + (SIDE - 1) / 2 + bend
    x, y = np.moveaxis(source.astype(np.float32), 2, 0)
    return cv2.remap(ink, x, y, cv2.INTER_LINEAR)


def change_pen(ink: Ink, random: Random) -> Ink:
    """Make strokes thicker or thinner, but don't lose them."""
    change = random.normal(0, 1.3)
    inside = ink > 0.5
    if inside.sum() < 20 or abs(change) < 0.3:
        return ink
    if change > 0:
        away = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 3)
        return np.asarray(np.clip(change + 1 - away, 0, 1))
    depth = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
    most = min(depth.max() - 1.5, 0.6 * np.percentile(depth[inside], 60))
    return np.asarray(np.clip(depth - min(-change, max(most, 0)), 0, 1))


def reduce(ink: Ink, random: Random) -> Ink:
    """Reduce two in five drawings to 10 to 60 pixels, as in small scans, some of them to black and
    white."""
    if random.random() > 0.4:
        return ink
    factor = np.exp(random.uniform(0.4, 1.65)) if random.random() < 0.75 else random.uniform(5, 9)
    height, width = (max(int(side / factor), 5) for side in ink.shape)
    small = cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA)
    if factor < 5 and random.random() < 0.4:
        return (small > random.uniform(0.3, 0.6)).astype(np.float32)
    return small


def crop(ink: Ink) -> Ink:
    left, top, width, height = cv2.boundingRect((ink > 0.3).astype(np.uint8))
    return ink[top : top + height, left : left + width]


def touch(drawings: list[Ink], random: Random) -> Ink | None:
    """Write drawings next to each other so that neighbours touch or overlap a little, about 70
    pixels high; None if they can't be joined to one part."""
    size = random.uniform(60, 80)
    parts = [_scale(crop(drawing), size * random.uniform(0.85, 1.15)) for drawing in drawings]
    ink = np.zeros((140, sum(part.shape[1] for part in parts) + 80), np.float32)
    before, left = ink[:0], 10
    for part in parts:
        height, width = part.shape
        top = int(np.clip(70 - height / 2 + random.normal(0, 5), 0, 140 - height))
        if len(before):
            overlap = random.exponential(0.035) if random.random() < 0.8 else 0
            left = _first_touch(before[top : top + height], part)
            left = max(left - 1 - int(min(overlap, 0.15) * width), 2)
        before = np.zeros_like(ink)
        if left + width > ink.shape[1]:
            return None
        before[top : top + height, left : left + width] = part
        ink = np.maximum(ink, before)
    count, _ = cv2.connectedComponents((ink > 0.5).astype(np.uint8))
    return ink if count == 2 or random.random() < 0.15 else None


def _scale(ink: Ink, size: float) -> Ink:
    height, width = ink.shape
    scale = min(size / max(height, 0.45 * width), 110 / width)
    sides = max(int(width * scale), 4), max(int(height * scale), 4)
    return cv2.resize(ink, sides, interpolation=cv2.INTER_AREA)


def _first_touch(before: Ink, part: Ink) -> int:
    """Return how far left `part` [h, w] can be put beside `before` [h, W] until it touches."""
    width = before.shape[1]
    right = np.where(
        (before > 0.5).any(axis=1), width - (before > 0.5)[:, ::-1].argmax(axis=1), -999
    )
    left = np.where((part > 0.5).any(axis=1), (part > 0.5).argmax(axis=1), 999)
    return int((right - left).max())
