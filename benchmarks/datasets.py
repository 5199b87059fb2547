"""`python -m benchmarks.datasets [FOLDER]`: write three example datasets like people's own.

FOLDER is `data/raw` unless given. Each dataset is drawn from a fixed seed:

- `photographs`: 900 JPEG files of 6 kinds of parts on a table, of many sizes, in one folder per
  class, next to files that aren't pictures; `new photographs` has one more of each
- `letters`: 1,800 grey PNG files of 10 letters in many fonts, in folders train, val and test
- `shapes.npz`: 1,552 grey images of 6 shapes, 800 of the first and 12 of the last
"""

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont

from benchmarks import pages
from benchmarks.pages import FONTS, Array, Pixels, Random, Shape, pick

# Polygons [N, 2] (x, y) within -1 and 1: those that are added, and those that are then cut out.
Outline = tuple[Sequence[Array], Sequence[Array]]

PARTS = ("bolt", "gear", "key", "nut", "washer", "wrench")
PHOTOGRAPHS = 150  # of each part
NAMES = ("photographs", "new photographs", "letters", "shapes.npz")
LETTERS = "ABCDEFGHIJ"
FOLDERS = {"train": 120, "val": 30, "test": 30}  # letters of each class
SHAPES = {"circle": 800, "square": 400, "triangle": 200, "star": 100, "cross": 40, "ring": 12}
STYLES = ("DejaVuS*[!y]", "STIXG*", "cm[brt]*", "cmss*")
FACES = [face for style in STYLES for face in sorted(FONTS.glob(f"{style}.ttf"))]
TABLES = (
    pages.planks((0.55, 0.38, 0.24)),
    pages.planks((0.82, 0.72, 0.58)),
    pages.textured((0.85, 0.85, 0.83), (0.02, 3, 3)),
    pages.textured((0.3, 0.34, 0.4), (0.08, 2, 2), (0.08, 40, 40)),
    pages.textured((0.62, 0.62, 0.6), (0.06, 1, 1), (0.06, 30, 30)),
    pages.squares((0.88, 0.87, 0.82), (0.45, 0.55, 0.72)),
    pages.squares((0.7, 0.71, 0.72), (0.4, 0.4, 0.4), line=0.1),
)
METALS = ((0.7, 0.71, 0.73), (0.45, 0.46, 0.48), (0.72, 0.58, 0.3), (0.68, 0.42, 0.3), (0.2,) * 3)


def write_photographs(folder: Path, new: Path) -> None:
    new.mkdir(parents=True)
    for label, kind in enumerate(PARTS):
        (folder / kind).mkdir(parents=True)
        for number in range(PHOTOGRAPHS + 1):
            random = np.random.default_rng([1, label, number])
            picture, exif = Image.fromarray(photograph(kind, random)), Image.Exif()
            if random.random() < 0.2:  # the camera was held upright
                picture = picture.transpose(Image.Transpose.ROTATE_90)
                exif[ExifTags.Base.Orientation] = 6
            path = folder / kind / f"IMG_{number:04}.{pick(('jpg', 'JPG', 'jpeg'), random)}"
            if number == PHOTOGRAPHS:
                path = new / f"{kind}.jpg"
            picture.save(path, quality=int(random.integers(70, 96)), exif=exif)
        (folder / kind / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")


def write_letters(folder: Path) -> None:
    for (part, count), letter in product(FOLDERS.items(), LETTERS):
        (folder / part / letter).mkdir(parents=True)
        for number in range(count):
            random = np.random.default_rng([2, *part.encode(), ord(letter), number])
            image = Image.fromarray(draw_letter(letter, random))
            image.save(folder / part / letter / f"{number:03}.png")


def write_shapes(path: Path) -> None:
    names = np.repeat(list(SHAPES), list(SHAPES.values()))
    images = [draw_shape(name, np.random.default_rng([3, i])) for i, name in enumerate(names)]
    np.savez_compressed(path, x_train=np.array(images), y_train=names)


def photograph(kind: str, random: Random) -> Pixels:
    long = random.uniform(120, 500)
    sides = int(long), int(max(long * random.uniform(0.6, 1), 90))
    shape = sides if random.random() < 0.5 else sides[::-1]
    scene = pick(TABLES, random)(shape, random) * np.float32(random.uniform(0.7, 1.1))
    for _ in range(random.integers(4)):
        scene = litter(scene, 0.02, 1, random)
    seen = [metal for metal in METALS if abs(np.mean(metal) - scene.mean()) > 0.15]
    metal = np.array(pick(seen, random)) * random.uniform(0.9, 1.1)
    scene = lay(scene, outlines(random)[kind], metal, random.uniform(0.32, 0.46), 0.1, random)
    if random.random() < 0.2:  # something covers a bit of it
        scene = litter(scene, 0.03, 0.5, random)
    light = pages.shadow(shape, random) if random.random() < 0.3 else 1
    return pages.photo(scene * light, random)


def litter(scene: Array, least: float, spread: float, random: Random) -> Array:
    high, corners = random.uniform(0.1, 1), int(random.integers(3, 12))
    scrap = disc(1, corners=corners, high=high)
    return lay(scene, ([scrap], ()), random.random(3), random.uniform(least, 0.1), spread, random)


def lay(
    scene: Array, outline: Outline, colour: Array, size: float, spread: float, random: Random
) -> Array:
    """Put a flat thing with round edges on the table, not farther than `spread` from its middle."""
    side = min(scene.shape[:2])
    middle = np.array(scene.shape[1::-1]) * (1 + random.uniform(-spread, spread, 2)) / 2
    mask = fill(outline, scene.shape[:2], turned(size * side, 0.4, random), middle)
    soft = cv2.GaussianBlur(mask, (0, 0), side * 0.01)
    slope = cv2.Sobel(soft, -1, 1, 0) + cv2.Sobel(soft, -1, 0, 1)
    light = 1 + random.uniform(0.1, 0.35) * slope + random.normal(0, 0.02, mask.shape)
    away = np.c_[np.eye(2), random.uniform(-0.04, 0.04, 2) * side]
    cast = cv2.warpAffine(soft, away, mask.shape[::-1]) * random.uniform(0.2, 0.6)
    dark, cover, bright = (layer[..., np.newaxis] for layer in (1 - cast, mask, light))
    return np.asarray(scene * dark * (1 - cover) + cover * bright * colour, np.float32)


def fill(outline: Outline, shape: Shape, transform: Array, middle: Array) -> Array:
    """Draw an outline as a mask float32 [H, W], with smooth edges."""
    mask = np.zeros(shape, np.uint8)
    for polygons, value in zip(outline, (255, 0), strict=True):
        for points in polygons:
            corners = 16 * (points @ transform.T + middle)
            cv2.fillPoly(mask, [corners.astype(np.int32)], value, cv2.LINE_AA, 4)
    return np.asarray(mask / np.float32(255))


def turned(size: float, most: float, random: Random) -> Array:
    """Return a matrix [2, 2] that scales, turns by at most an angle, and distorts a little."""
    angle = random.uniform(-most, most)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(size * turn @ (np.eye(2) + random.uniform(-0.15, 0.15, (2, 2))))


def disc(radius: float | Array, x: float = 0, corners: int = 40, high: float = 1) -> Array:
    """Return a regular polygon or, with a radius for each corner, a star."""
    angles = np.arange(corners) * 2 * np.pi / corners
    points = np.asarray(radius)[..., np.newaxis] * np.c_[np.cos(angles), high * np.sin(angles)]
    return np.asarray(points + np.array([x, 0]))


def box(left: float, top: float, right: float, bottom: float) -> Array:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def outlines(random: Random) -> dict[str, Outline]:
    """Return the outline of each part and shape."""
    a, b, c, d = random.random(4)  # make each differ from others of its kind
    teeth, x, y = round(8 + 8 * a), np.arange(24) / 18 - 0.3, 0.15 + 0.1 * a
    wheel = disc(np.tile([1, 1, 0.75 + 0.1 * b, 0.75 + 0.1 * b], teeth), corners=4 * teeth)
    thread = np.c_[x, y * (0.8 + 0.2 * (np.arange(24) % 2))]
    bolt = box(-1, -y * (1.7 + b), -0.6, y * (1.7 + b)), box(-0.7, -y, -0.2, y)
    bow, rod, bits = 0.3 + 0.12 * a, box(-0.6, -0.1, 1, 0.1), 0.12 + 0.18 * np.array([b, c, d, 1])
    blade = [box(0.4 + 0.14 * i, 0, 0.5 + 0.14 * i, bit) for i, bit in enumerate(bits)]
    head, jaw, bar = 0.24 + 0.08 * a, 0.1 + 0.05 * b, 0.2 + 0.15 * a
    wrench = box(-0.7, -head / 2, 0.7, head / 2), disc(head, head - 1), disc(head, 1 - head)
    jaws = [box(side * 0.72, -jaw, side * 1.1, jaw) for side in (-1, 1)]
    return {
        "bolt": ((*bolt, np.r_[thread, thread[::-1] * (1, -1)]), ()),
        "gear": ([wheel], [disc(0.15 + 0.35 * c)]),
        "key": ((disc(bow, bow - 1), rod, *blade), [disc(bow * (0.4 + 0.3 * b), bow - 1)]),
        "nut": ([disc(1, corners=6)], [disc(0.4 + 0.22 * a)]),
        "washer": ([disc(0.95)], [disc(0.3 + 0.32 * a)]),
        "wrench": (wrench, jaws),
        "circle": ([disc(1)], ()),
        "square": ([disc(1, corners=4)], ()),
        "triangle": ([disc(1, corners=3)], ()),
        "star": ([disc(np.tile([1, 0.35 + 0.15 * a], 5), corners=10)], ()),
        "cross": ([box(-1, -bar, 1, bar), box(-bar, -1, bar, 1)], ()),
        "ring": ([disc(1)], [disc(0.5 + 0.2 * a)]),
    }


def draw_letter(letter: str, random: Random) -> Pixels:
    page, face = Image.new("L", (300, 300)), ImageFont.truetype(pick(FACES, random), 160)
    ImageDraw.Draw(page).text((150, 150), letter, 255, face, anchor="mm")
    height = int(random.integers(32, 73))
    return scan(np.array(page), (height, int(height * random.uniform(0.75, 1.35))), 0.15, random)


def draw_shape(name: str, random: Random) -> Pixels:
    ink = fill(outlines(random)[name], (300, 300), turned(100, np.pi, random), np.array([150, 150]))
    return scan(255 * ink, (32, 32), 0, random)


def scan(page: Array, shape: Shape, turn: float, random: Random) -> Pixels:
    """Scale ink to part of an image of a shape, turned by at most an angle, with noise."""
    ink, sides = pages.crop(page), np.array(shape[::-1])
    inner = random.uniform(0.5, 0.8) * min(shape)
    matrix = turned(inner / max(ink.shape), turn, random)
    middle = sides / 2 + random.uniform(-0.3, 0.3, 2) * (sides - inner)
    offset = middle - matrix @ (np.array(ink.shape[::-1]) / 2)
    smooth = cv2.GaussianBlur(ink, (0, 0), 0.4 * max(ink.shape) / inner)
    share = cv2.warpAffine(smooth, np.c_[matrix, offset], shape[::-1]) / 255
    paper, pen = random.permuted(random.uniform((0.6, 0), (1, 0.35)))
    noise = random.normal(0, random.uniform(0, 0.08), shape)
    return np.asarray(255 * (paper + (pen - paper) * share + noise).clip(0, 1), np.uint8)


if __name__ == "__main__":
    raw = Path(sys.argv[1] if len(sys.argv) > 1 else "data/raw")
    if found := [name for name in NAMES if (raw / name).exists()]:
        sys.exit(f"error: {raw / found[0]} exists: remove it to draw it again")
    write_photographs(raw / "photographs", raw / "new photographs")
    write_letters(raw / "letters")
    write_shapes(raw / "shapes.npz")
