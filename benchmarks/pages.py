"""Pictures of handwritten digits as people take them, drawn from seeds for `benchmarks.pictures`.

Glyphs are images uint8 [28, 28] in which 255 is ink, as in MNIST. `KINDS` names the functions that
turn them into pictures. Two families share no glyphs, fonts, papers, desks or scribbles: `tune` is
for choosing how to read, `report` only for saying how well it works.
"""

import gzip
import io
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

from mnist_cnn.data.mnist import load_mnist

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]  # mostly float32 in [0, 1]: ink [H, W] or light [H, W, 3]
Shape = tuple[int, int]
Colour = tuple[float, float, float]
Random = np.random.Generator
Painter = Callable[[Shape, Random], Array]  # paints paper or a desk
Source = Callable[[Random], tuple[Pixels, int | None]]  # a glyph and, if it's a digit, its label

FONTS = Path(matplotlib.get_data_path(), "fonts", "ttf")
FASHION = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
PENS = ((0.1, 0.1, 0.12), (0.12, 0.17, 0.5), (0.42, 0.42, 0.44), (0.75, 0.12, 0.15))
RULES = ((0.55, 0.68, 0.9), (0.7, 0.7, 0.72), (0.6, 0.75, 0.72))
BOARDS = ((0.15, 0.27, 0.21), (0.16, 0.16, 0.17), (0.22, 0.24, 0.27))
# Without letters that a person could take for a digit, such as O, l or Z.
LATIN = "ACEFHJKLMNPRTUVWXYadefhkmnptuvwx"


class Family(NamedTuple):
    digits: Source
    connected: Source  # digits of a single part
    others: Source  # scikit-learn's digits, 8 x 8
    latin: Source
    alphabets: Source
    scribbles: Source
    clothes: Source | None
    papers: tuple[Painter, ...]
    dark_desks: tuple[Painter, ...]
    light_desks: tuple[Painter, ...]


class Kind(NamedTuple):
    draw: Callable[[list[Pixels], Family, Random], Array]
    source: str  # a field of Family
    least: int = 1
    most: int = 1


def make(kind: Kind, family: Family, random: Random) -> tuple[bytes, list[int | None]]:
    """Draw a picture of this kind: the content of its file, and its labels."""
    count = random.integers(kind.least, kind.most + 1)
    glyphs = [getattr(family, kind.source)(random) for _ in range(count)]
    picture = Image.fromarray(kind.draw([image for image, _ in glyphs], family, random))
    file = io.BytesIO()
    if max(picture.size) > 32 and random.random() < 0.8:
        picture.save(file, "JPEG", quality=int(random.integers(60, 96)))
    else:
        picture.save(file, "PNG", compress_level=1)
    return file.getvalue(), [label for _, label in glyphs]


# Kinds of pictures: [H, W, 3] or, in grey, [H, W]


def page(
    glyphs: list[Pixels],
    family: Family,
    random: Random,
    pattern: Callable[[Array, float, int, Random], Array] = lambda paper, *_: paper,
    shaded: bool = False,
    touching: bool = False,
) -> Pixels:
    """Paper fills the picture."""
    shape = picture_shape(random, 300, wide=len(glyphs) > 1)
    size = digit_size(shape, len(glyphs), random)
    written = (touching_pair if touching else row)(glyphs, size, random)
    ink, bottom = place(written, shape, random)
    paper = pattern(pick(family.papers, random)(shape, random), size, bottom, random)
    light = shadow(shape, random) if shaded else np.float32(1)
    return photo(inked(paper, ink, random) * light, random)


def blackboard(glyphs: list[Pixels], _: Family, random: Random) -> Pixels:
    shape = picture_shape(random, 300, wide=False)
    size = 1.5 * digit_size(shape, 1, random)
    ink, _bottom = place(row(glyphs, size, random), shape, random)
    grains = np.clip(0.8 + 0.25 * cloud(shape, 1 + size / 80, 1 + size / 80, random), 0, 1)
    chalk = (ink * grains * random.uniform(0.6, 0.95))[..., np.newaxis]
    wiped = 0.03 * cloud(shape, shape[0] / 5, shape[1] / 3, random)[..., np.newaxis]
    board = np.array(pick(BOARDS, random), np.float32) + wiped
    return photo(board + chalk * (0.95 - board), random)


def desk(
    glyphs: list[Pixels],
    family: Family,
    random: Random,
    light: bool = False,
    cropped: bool = False,
) -> Pixels:
    """A sheet on a desk, photographed from slightly to the side."""
    shape = picture_shape(random, 600, wide=len(glyphs) > 1)
    sides = np.array(shape[::-1])
    size, seen = 0.0, np.zeros(1)
    while size < 25 or seen.min() < 0.03 or seen.max() > 0.97:
        corners = (sheet_corners(random, cropped) * sides).astype(np.float32)
        width, height = (int(np.linalg.norm(corners[i] - corners[0])) for i in (1, 3))
        size = digit_size((height, width), len(glyphs), random)
        ink, _ = place(row(glyphs, size, random), (height, width), random)
        flat = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        view = cv2.getPerspectiveTransform(flat, corners)
        left, top, wide, high = cv2.boundingRect((ink > 0.1).astype(np.uint8))
        box = np.array([[left, top], [left + wide, top], [left, top + high]], np.float32)
        box = np.vstack([box, box[1] + box[2] - box[0]])[np.newaxis]
        seen = cv2.perspectiveTransform(box, view) / sides
    paper = inked(pick(family.papers, random)((height, width), random), ink, random)
    sheet, cover = (
        cv2.warpPerspective(layer, view, shape[::-1], flags=cv2.INTER_AREA)
        for layer in (paper, np.ones((height, width), np.float32))
    )
    cast = np.roll(cover, random.integers(-6, 7, 2), (0, 1))
    cast = cv2.GaussianBlur(cast, (0, 0), max(shape) * random.uniform(0.003, 0.01))
    painter = pick(family.light_desks if light else family.dark_desks, random)
    table = painter(shape, random) * (1 - 0.4 * cast)[..., np.newaxis]
    scene = table * (1 - cover[..., np.newaxis]) + sheet
    return photo(scene * (shadow(shape, random) if random.random() < 0.5 else 1), random)


def scan32(glyphs: list[Pixels], _: Family, random: Random) -> Pixels:
    """Undo how scikit-learn's digits were made: each of their pixels says how much of 4 x 4 pixels
    was ink."""
    share = glyphs[0].astype(np.float32) / 255
    grey: Array = cv2.resize(share, (32, 32), interpolation=cv2.INTER_CUBIC)
    for _step in range(10):
        ink = np.clip(4 * cv2.GaussianBlur(grey, (0, 0), 1) - 1.5, 0, 1)
        missing = share - cv2.resize(ink, (8, 8), interpolation=cv2.INTER_AREA)
        grey += 0.3 * cv2.resize(missing, (32, 32), interpolation=cv2.INTER_CUBIC)
    bitmap = np.where(cv2.GaussianBlur(grey, (0, 0), 1) > 0.5, 255, 0).astype(np.uint8)
    return 255 - bitmap if random.random() < 0.5 else bitmap


def scan16(glyphs: list[Pixels], _: Family, random: Random) -> Pixels:
    scan = fit(glyphs[0], 16, 16)
    return 255 - scan if random.random() < 0.5 else scan


def as_it_is(glyphs: list[Pixels], _family: Family, _random: Random) -> Pixels:
    return glyphs[0]


# Ink


def row(glyphs: list[Pixels], size: float, random: Random) -> Array:
    """Write glyphs next to each other: ink [h, w]."""
    pen = pen_width(size, random)
    digits = [write(glyph, size * random.uniform(0.88, 1.1), pen, random) for glyph in glyphs]
    lifts = (random.uniform(0, 0.12, len(digits)) * size).astype(int)
    height = max(len(digit) for digit in digits) + max(lifts)
    gaps = (random.uniform(0.06, 0.35, len(digits)) * size).astype(int) + 2
    padded = [
        np.pad(digit, ((height - len(digit) - lift, lift), (0, gap)))
        for digit, lift, gap in zip(digits, lifts, gaps, strict=True)
    ]
    return crop(np.hstack(padded))


def touching_pair(glyphs: list[Pixels], size: float, random: Random) -> Array:
    """Write two digits whose ink overlaps or is joined by a stroke: one connected part."""
    while True:
        pen = pen_width(size, random)
        a, b = (write(glyph, size * random.uniform(0.8, 1.2), pen, random) for glyph in glyphs)
        stroke = random.random() < 0.1  # almost always connects, while most other pairs are retried
        overlap = -random.uniform(0.02, 0.2) if stroke else random.uniform(0, 0.15)
        start = a.shape[1] - int(overlap * min(a.shape[1], b.shape[1]))
        down, drop = (random.uniform(0, 0.2, 2) * size).astype(int).tolist()
        shape = max(len(a) + down, len(b) + drop), max(a.shape[1], start + b.shape[1])
        ink = np.zeros(shape, np.float32)
        for digit, top, left in ((a, down, 0), (b, drop, start)):
            area = ink[top : top + len(digit), left : left + digit.shape[1]]
            np.maximum(area, digit, out=area)
        if stroke:
            ends = (
                (a.shape[1] - 2, down + int(a[:, -2].argmax())),
                (start, drop + int(b[:, 1].argmax())),
            )
            line = np.zeros(shape, np.uint8)
            cv2.line(line, *ends, 255, max(int(size * 0.06), 2), cv2.LINE_AA)
            ink = np.maximum(ink, line / np.float32(255))
        if parts(ink > 0.5) == 1:
            return ink


def parts(ink: Array) -> int:
    return cv2.connectedComponents(ink.astype(np.uint8))[0] - 1


def loops(ink: Array) -> int:
    return parts(np.pad(~ink, 1, constant_values=True)) - 1


def pen_width(size: float, random: Random) -> float:
    """Choose a pen's width as a share of a digit's size, or 0 to keep the glyphs' own strokes."""
    return 0 if random.random() < 0.5 else max(random.uniform(0.035, 0.11), 1.8 / size)


def write(glyph: Pixels, size: float, pen: float, random: Random) -> Array:
    """Enlarge a glyph to ink [h, w] with smooth, sharp edges, turned and slanted a little."""
    large = np.pad(glyph, 6).astype(np.float32) / 255
    ink: Array = cv2.resize(large, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    ink = cv2.GaussianBlur(ink, (0, 0), 3.5)
    if pen:
        # The lowest threshold keeps thin strokes, but a higher one may open a filled loop.
        masks = [ink > level for level in (0.25, 0.4, 0.55)]
        mask = max(masks, key=lambda mask: loops(mask) if parts(mask) == parts(masks[0]) else -1)
        away = cv2.distanceTransform(1 - skeleton(mask), cv2.DIST_L2, 5)
        width = 160 * pen * (1 + 0.12 * cloud(ink.shape, 40, 40, random))
        ink = cv2.GaussianBlur(np.clip(width / 2 + 0.5 - away, 0, 1), (0, 0), 2)
    ink = np.clip((ink - random.uniform(0.25, 0.4)) * 5 + 0.5, 0, 1)
    angle, slant = random.uniform(-0.2, 0.2), random.uniform(-0.15, 0.15)
    turn = np.array([[np.cos(angle), slant - np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array(ink.shape) / 2
    ink = cv2.warpAffine(ink, np.c_[turn, centre - turn @ centre], ink.shape, flags=cv2.INTER_CUBIC)
    ink = crop(np.clip(ink, 0, 1))
    scale = size / max(ink.shape)
    height, width = (max(round(side * scale), 2) for side in ink.shape)
    smaller = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.clip(cv2.resize(ink, (width, height), interpolation=smaller), 0, 1)


@cache
def removable() -> tuple[Array, Array]:
    """For the two steps of thinning, the neighbourhoods whose middle is removed (Zhang and Suen
    1984, https://doi.org/10.1145/357994.358023); bits are the neighbours from north clockwise."""
    tables = np.zeros((2, 256), bool)
    for code in range(256):
        p = [code >> bit & 1 for bit in range(8)]
        n, e, s, w = p[::2]
        edge = 2 <= sum(p) <= 6 and sum(a < b for a, b in zip(p, p[1:] + p[:1], strict=True)) == 1
        tables[:, code] = edge and not e * s * (n + w), edge and not n * w * (e + s)
    return tables[0], tables[1]


def skeleton(mask: Array) -> Pixels:
    """Thin ink to lines of one pixel, in 0 and 1."""
    thin = mask.astype(np.uint8)
    kernel = np.array([[128, 1, 2], [64, 0, 4], [32, 16, 8]], np.float32)
    before = None
    while before != (before := int(thin.sum())):
        for table in removable():
            thin[table[cv2.filter2D(thin, -1, kernel)]] = 0
    return thin


def crop(ink: Array) -> Array:
    left, top, width, height = cv2.boundingRect((ink > 0.1 * ink.max()).astype(np.uint8))
    return ink[top : top + height, left : left + width]


def fit(ink: Array, inner: int, outer: int) -> Pixels:
    """Scale ink to fit a square of `inner` pixels, in the middle of one of `outer` pixels."""
    ink = crop(ink)
    height, width = (max(round(side * inner / max(ink.shape)), 1) for side in ink.shape)
    image = np.zeros((outer, outer), np.uint8)
    top, left = (outer - height) // 2, (outer - width) // 2
    small = cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA)
    image[top : top + height, left : left + width] = small
    return image


# Layout


def picture_shape(random: Random, least: int, wide: bool) -> Shape:
    long = int(np.exp(random.uniform(np.log(least), np.log(1600))))
    short = int(long * random.uniform(0.55, 0.9))
    return (short, long) if random.random() < 0.5 or (wide and long < 800) else (long, short)


def digit_size(shape: Shape, count: int, random: Random) -> float:
    share = np.exp(random.uniform(np.log(0.025), np.log(0.3)))
    return float(min(max(share * max(shape), 28), shape[0] * 0.6, shape[1] * 0.6 / count))


def place(ink: Array, shape: Shape, random: Random) -> tuple[Array, int]:
    """Put ink [h, w] somewhere on a page [H, W]. Also return its lower edge."""
    margin = 0.04 * min(shape)
    rooms = (whole - own for own, whole in zip(ink.shape, shape, strict=True))
    top, left = (int(random.uniform(min(margin, room / 2), room - margin)) for room in rooms)
    cover = np.zeros(shape, np.float32)
    bottom = top + len(ink)
    cover[top:bottom, left : left + ink.shape[1]] = ink
    return cover, bottom


def inked(paper: Array, ink: Array, random: Random) -> Array:
    pen = np.array(pick(PENS, random), np.float32) + np.float32(random.uniform(-0.05, 0.05))
    strength = np.asarray(ink * random.uniform(0.75, 1), np.float32)[..., np.newaxis]
    return np.asarray(paper * (1 - strength * (1 - pen)))


def sheet_corners(random: Random, cropped: bool) -> Array:
    """Choose a sheet's corners [4, 2] (x, y) as shares of the picture, clockwise from top left. If
    `cropped`, one to three sides lie outside of it, else none."""
    while True:
        inset = random.uniform(0.06, 0.3, 4)  # left, top, right, bottom
        if cropped:
            out = random.choice(4, random.integers(1, 4), replace=False)
            inset[out] = -random.uniform(0.1, 0.3, len(out))
        left, top, right, bottom = inset * (1, 1, -1, -1) + (0, 0, 1, 1)
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        first = random.integers(4)
        edge = [first, (first + 1) % 4]  # the one farther away
        corners[edge] += random.uniform(0, 0.15) * (corners[edge].mean(axis=0) - corners[edge])
        angle = random.uniform(-0.2, 0.2)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        corners = (corners - 0.5) @ turn + 0.5 + random.normal(0, 0.01, (4, 2))
        if cropped or (corners.min() > 0.01 and corners.max() < 0.99):
            return np.asarray(corners)


# Paper, desks, light and the camera


def cloud(shape: tuple[int, ...], down: float, across: float, random: Random) -> Array:
    """Noise [H, W] around 0 that changes over so many pixels down and across."""
    coarse = int(shape[0] / down) + 2, int(shape[1] / across) + 2
    noise = random.standard_normal(coarse, np.float32)
    return np.asarray(cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC))


def painted(colour: Colour, bright: Array) -> Array:
    return np.array(colour, np.float32) * bright.astype(np.float32)[..., np.newaxis]


def textured(colour: Colour, *layers: tuple[float, float, float]) -> Painter:
    """Paint clouds; a layer is their strength and their sizes down and across."""

    def paint(shape: Shape, random: Random) -> Array:
        clouds = [share * cloud(shape, down, across, random) for share, down, across in layers]
        return painted(colour, 1 + np.sum(clouds, axis=0))

    return paint


def planks(colour: Colour) -> Painter:
    """Boards with wavy grain and dark joints."""

    def paint(shape: Shape, random: Random) -> Array:
        width = max(shape) * random.uniform(0.15, 0.4)
        y = np.arange(shape[0])[:, np.newaxis] + np.zeros(shape)
        rings = np.sin(y / max(shape) * 200 + 8 * cloud(shape, width, max(shape), random))
        grain = 0.04 * rings + 0.05 * cloud(shape, 2, 60, random)
        board = (y / width).astype(int)
        bright = random.uniform(0.85, 1.1, board.max() + 1)[board] * (1 + grain)
        return painted(colour, np.where(y % width < max(shape) / 250, 0.5, bright))

    return paint


def squares(colour: Colour, other: Colour, line: float = 1) -> Painter:
    """A tablecloth with bands of another colour or, if `line` is less than 1, tiles with joints of
    such a share."""

    def paint(shape: Shape, random: Random) -> Array:
        step = max(shape) * random.uniform(0.03, 0.08) / line
        y, x = (np.arange(side) / step % 1 for side in shape)
        share = ((y < line / 2)[:, np.newaxis] + (x < line / 2)[np.newaxis].astype(float)) / 2
        share = share if line == 1 else np.sign(share)
        cloth = painted(colour, 1 - share) + painted(other, share)
        return cloth * (1 + 0.03 * cloud(shape, 2, 2, random))[..., np.newaxis]

    return paint


def ruled(paper: Array, size: float, bottom: int, random: Random) -> Array:
    step = size * random.uniform(0.8, 2.2)
    paper = lined(paper, step, bottom + random.uniform(-0.1, 0.15) * size, random)
    if random.random() < 0.6:
        return paper
    red, left = np.array((0.9, 0.5, 0.5)), int(paper.shape[1] * random.uniform(0.05, 0.2))
    paper[:, left : left + max(int(step / 25), 1)] *= red.astype(np.float32)
    return paper


def squared(paper: Array, size: float, bottom: int, random: Random) -> Array:
    step = max(size * random.uniform(0.35, 1.1), 8)
    return lined(paper, step, bottom + random.uniform(-0.2, 0.2) * size, random, both=True)


def lined(paper: Array, step: float, start: float, random: Random, both: bool = False) -> Array:
    """Draw lines across, one of them at `start`, and if `both`, down too."""
    width = max(step * random.uniform(0.02, 0.05), 1)
    ends = (np.abs((np.arange(side) - start + step / 2) % step - step / 2) for side in paper.shape)
    down, across = (np.clip((width + 1) / 2 - next(ends), 0, 1) for _ in range(2))
    cover = np.maximum(down[:, np.newaxis], across if both else 0)
    colour = random.uniform(0.4, 1) * (1 - np.array(pick(RULES, random)))
    return paper * np.asarray(1 - cover[..., np.newaxis] * colour, np.float32)


def ramp(shape: Shape, random: Random) -> Array:
    """A gradient [H, W, 1] from 0 to 1 in some direction."""
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    angle = random.uniform(0, 2 * np.pi)
    slope = (1 + (np.cos(angle) * x + np.sin(angle) * y) / np.sqrt(2)) / 2
    return np.asarray(slope, np.float32)[..., np.newaxis]


def shadow(shape: Shape, random: Random) -> Array:
    """Light [H, W, 1] that falls off to one side, under the shadow of a phone or of a hand that
    comes in from a side."""
    side = max(shape)
    dark = np.zeros(shape, np.uint8)
    tip = random.uniform(0.1, 0.9, 2) * shape[::-1]
    angle = random.choice([0, 90, 180, 270]) + random.uniform(-35, 35)
    away = side * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    if random.random() < 0.5:
        phone = (tip + away).tolist(), (2 * side, side * random.uniform(0.2, 0.4)), angle
        cv2.fillPoly(dark, [cv2.boxPoints(phone).astype(np.int32)], 1)
    else:
        for finger in range(5):  # the last one is the palm
            spread = (0.08 * (finger - 1.5) if finger < 4 else 0) * away[::-1] * (-1, 1)
            start = tip + spread + away * (random.uniform(0, 0.12) if finger < 4 else 0.4)
            ends = np.array([start, tip + 0.7 * spread + 2 * away]).astype(int).tolist()
            width = random.uniform(0.05, 0.065) if finger < 4 else 0.25
            cv2.line(dark, ends[0], ends[1], 1, int(side * width))
    soft = cv2.GaussianBlur(dark.astype(np.float32), (0, 0), side * random.uniform(0.001, 0.015))
    hard = 1 - np.float32(random.uniform(0.25, 0.55)) * soft[..., np.newaxis]
    return np.asarray(hard * (1 - np.float32(random.uniform(0.1, 0.5)) * ramp(shape, random)))


def photo(scene: Array, random: Random) -> Pixels:
    """Take a photograph, uint8 [H, W, 3]: uneven light and its colour, blur and noise."""
    colour = random.uniform(0.8, 1.05) * (1 + random.uniform(-0.06, 0.06) * np.array([1, 0, -1]))
    light = 1 - np.float32(random.uniform(0, 0.3)) * ramp(scene.shape[:2], random)
    scene = scene * light * colour.astype(np.float32)
    scene = cv2.GaussianBlur(scene, (0, 0), random.uniform(0.3, 0.4 + max(scene.shape) / 1500))
    noise = random.standard_normal(scene.shape, np.float32) * np.float32(random.uniform(0, 0.025))
    return np.asarray(255 * np.clip(scene + noise, 0, 1), np.uint8)


# Sources of glyphs


def pick(options: Any, random: Random) -> Any:
    return options[random.integers(len(options))]


def labelled(images: Array, labels: Array) -> Source:
    return lambda random: (images[i := random.integers(len(labels))], int(labels[i]))


def letters(*choices: tuple[str | int, str]) -> Source:
    """Letters in fonts: file names of matplotlib's or numbers of OpenCV's."""

    def source(random: Random) -> tuple[Pixels, None]:
        font, characters = pick(choices, random)
        character, image = pick(characters, random), Image.new("L", (300, 300))
        ink = np.array(image)
        if isinstance(font, str):
            face = ImageFont.truetype(FONTS / f"{font}.ttf", 130)
            ImageDraw.Draw(image).text((150, 150), character, 255, face, anchor="mm")
            ink = np.array(image)
        else:
            cv2.putText(ink, character, (100, 200), font, 5, 255, 9, cv2.LINE_AA)
        y, x = np.mgrid[:300, :300].astype(np.float32)
        x, y = (z + 5 * cloud(ink.shape, 50, 50, random) for z in (x, y))  # as by a hand
        return fit(cv2.remap(ink, x, y, cv2.INTER_LINEAR), 20, 28), None

    return source


def drawn(strokes: list[Any]) -> tuple[Pixels, None]:
    """Draw lines [N, 2] (x, y) about 1 long as a glyph."""
    points = [(200 + 80 * np.asarray(stroke)).astype(np.int32) for stroke in strokes]
    ink = cv2.polylines(np.zeros((400, 400), np.uint8), points, False, 255, 14, cv2.LINE_AA)
    return fit(np.asarray(ink), 20, 28), None


def curls(random: Random) -> tuple[Pixels, None]:
    """Two or three wild strokes."""
    return drawn([cloud((60, 2), 6, 9, random) for _ in range(random.integers(2, 4))])


def doodles(random: Random) -> tuple[Pixels, None]:
    """A star, a knot, a spiral, crossed-out lines or an asterisk."""
    t = np.linspace(0, 2 * np.pi, 120)
    wobble = 1 + 0.1 * cloud((120, 1), 20, 9, random)[:, 0]
    corner = np.arange(6) * 4 * np.pi / 5
    bars: list[Any] = [[(x, -1), (x + random.uniform(-0.3, 0.3), 1)] for x in np.linspace(-1, 1, 5)]
    options = (
        [np.c_[np.sin(corner), np.cos(corner)] + random.normal(0, 0.1, (6, 2))],
        [np.c_[np.sin(2 * t) * wobble, np.sin(3 * t + random.uniform(-0.2, 0.2))]],
        [np.c_[np.sin(3 * t), np.cos(3 * t)] * (t / 6 * wobble)[:, np.newaxis]],
        [*bars[: random.integers(3, 6)], [(-1.2, 0), (1.2, 0.2)]],
        [[(-np.cos(x), -np.sin(x)), (np.cos(x), np.sin(x))] for x in t[:60:15]],
    )
    return drawn(pick(options, random))


def silhouettes(random: Random) -> tuple[Pixels, None]:
    """A shirt, trousers, a bag or a shoe, as in Fashion-MNIST."""
    shapes = (
        "9 3 12 4 16 4 19 3 25 9 22 12 20 10 20 25 8 25 8 10 6 12 3 9",
        "9 2 19 2 21 26 16 26 14 9 12 26 7 26",
        "4 12 9 12 10 5 18 5 19 12 24 12 25 24 3 24",
        "3 12 8 12 14 15 24 18 26 22 3 22",
    )
    points = np.array(pick(shapes, random).split(), float).reshape(-1, 2)
    corners = (10 * (points + random.normal(0, 0.5, points.shape))).astype(np.int32)
    image = cv2.fillPoly(np.zeros((280, 280), np.uint8), [corners], 255)
    small = cv2.resize(image, (28, 28), interpolation=cv2.INTER_AREA)
    grey = random.uniform(0.4, 0.9) * (1 + 0.15 * cloud((28, 28), 3, 3, random))
    return np.asarray(np.clip(small * grey, 0, 255), np.uint8), None


def fashion() -> Source | None:
    if not FASHION.exists():
        return None
    images = np.frombuffer(gzip.decompress(FASHION.read_bytes())[16:], np.uint8)
    return lambda random: (pick(images.reshape(-1, 28, 28), random), None)


def digit_sources(images: Array, labels: Array, first: int) -> tuple[Source, Source, Source]:
    """Return the first three fields of a Family."""
    connected = np.array([parts(image > 80) == 1 for image in images])
    others = load_digits()
    tiny = (others.images[first::2] * 255 / 16).astype(np.uint8)
    whole = labelled(images[connected], labels[connected])
    return labelled(images, labels), whole, labelled(tiny, others.target[first::2])


def tune() -> Family:
    mnist = load_mnist()
    fonts = ("DejaVuSans", "DejaVuSansMono", "cmr10", cv2.FONT_HERSHEY_SIMPLEX)
    return Family(
        *digit_sources(np.asarray(mnist.train_images[55000:]), mnist.train_labels[55000:], 0),
        latin=letters(*((font, LATIN) for font in (*fonts, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX))),
        alphabets=letters(
            ("DejaVuSans", "ΓΔΛΞΠΣΦΨΩαηκλμπφψω"),
            ("DejaVuSans", "بتثجحخسشصضطظغفقكن"),
            ("DejaVuSans", "ⴳⴶⴹⴼⴽⵃⵅⵍⵎⵓⵖⵚⵛⵞⵟⵣⵥⵡ"),
            ("DejaVuSerif", "ԲԹԺԻԽՄՆ"),
        ),
        scribbles=curls,
        clothes=silhouettes,
        papers=(
            textured((0.95, 0.95, 0.95), (0.01, 3, 3)),
            textured((0.95, 0.92, 0.84), (0.01, 3, 3)),
        ),
        dark_desks=(
            textured((0.27, 0.17, 0.1), (0.1, 3, 200), (0.1, 25, 600)),
            textured((0.08, 0.08, 0.08), (0.05, 2, 2)),
            textured((0.25, 0.25, 0.26), (0.05, 2, 2)),
            textured((0.1, 0.14, 0.28), (0.05, 2, 2)),
        ),
        light_desks=(
            textured((0.8, 0.68, 0.5), (0.05, 3, 200), (0.05, 25, 600)),
            textured((0.72, 0.72, 0.72), (0.03, 2, 2)),
            squares((0.9, 0.88, 0.82), (0.75, 0.4, 0.38)),
        ),
    )


def report() -> Family:
    mnist = load_mnist()
    fonts = ("DejaVuSerif-Italic", "STIXGeneralItalic", "cmti10", cv2.FONT_HERSHEY_COMPLEX)
    return Family(
        *digit_sources(np.asarray(mnist.test_images), mnist.test_labels, 1),
        latin=letters(*((font, LATIN) for font in (*fonts, cv2.FONT_HERSHEY_SCRIPT_COMPLEX))),
        alphabets=letters(
            ("DejaVuSansMono", "ГДЖИЙКЛМНПФХШЩЫЯжикмнптфхшщыя"),
            ("DejaVuSans", "אהחטכמעפצקשת"),
            ("DejaVuSans", "ᐁᐃᐅᐊᐯᐱᐳᐸᑌᑎᑐᑕᒥᒧᒪ"),
            ("DejaVuSerif", "თიმქღხლ"),
        ),
        scribbles=doodles,
        clothes=fashion(),
        papers=(
            textured((0.96, 0.96, 0.94), (0.008, 50, 50), (0.02, 400, 400)),
            textured((0.88, 0.87, 0.84), (0.03, 2, 2)),
        ),
        dark_desks=(
            planks((0.33, 0.2, 0.12)),
            planks((0.17, 0.1, 0.07)),
            squares((0.12, 0.13, 0.14), (0.16, 0.17, 0.18)),
            textured((0.08, 0.2, 0.16), (0.12, 2, 30), (0.08, 30, 2)),
            squares((0.3, 0.3, 0.33), (0.18, 0.18, 0.2), line=0.1),
        ),
        light_desks=(
            planks((0.84, 0.72, 0.56)),
            squares((0.82, 0.83, 0.84), (0.65, 0.65, 0.64), line=0.1),
            squares((0.85, 0.87, 0.9), (0.5, 0.6, 0.8)),
            textured((0.78, 0.74, 0.66), (0.04, 2, 30), (0.04, 30, 2)),
        ),
    )


FAMILIES = {"tune": tune, "report": report}
KINDS = {
    "plain": Kind(page, "digits"),
    "ruled": Kind(partial(page, pattern=ruled), "digits"),
    "squared": Kind(partial(page, pattern=squared), "digits"),
    "shadow": Kind(partial(page, shaded=True), "digits"),
    "blackboard": Kind(blackboard, "digits"),
    "desk": Kind(desk, "digits"),
    "cropped sheet": Kind(partial(desk, cropped=True), "digits"),
    "light desk": Kind(partial(desk, light=True), "digits"),
    "row": Kind(page, "digits", 3, 6),
    "ruled row": Kind(partial(page, pattern=ruled), "digits", 3, 6),
    "desk row": Kind(desk, "digits", 3, 6),
    "touching pair": Kind(partial(page, touching=True), "connected", 2, 2),
    "MNIST as it is": Kind(as_it_is, "digits"),
    "scikit-learn's digits, 8x8": Kind(as_it_is, "others"),
    "32x32 scans": Kind(scan32, "others"),
    "16x16 scans": Kind(scan16, "digits"),
    "Latin letters": Kind(page, "latin"),
    "other alphabets": Kind(page, "alphabets"),
    "scribbles": Kind(page, "scribbles"),
    "clothes": Kind(as_it_is, "clothes"),
}
