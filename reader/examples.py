"""Make the examples that the reader's network is trained on, from MNIST's training images and
drawings. Like the marks in a picture, they pass through `as_mnist`.
"""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from mnist_cnn.reading.reader import OTHER, READER_INTERFACE
from mnist_cnn.reading.scaling import as_mnist
from reader import glyphs
from reader.glyphs import Ink, Random, change_pen, crop, distort, enlarge, reduce, touch

Pixels = npt.NDArray[np.uint8]
Digits = tuple[Pixels, npt.NDArray[np.uint8]]  # MNIST's images [N, 28, 28] and labels [N]

IMAGE_SHAPE = READER_INTERFACE[0]
CHUNK = 500
# The digits that aren't digits, and don't look like one, when they are mirrored or turned.
MIRRORED = frozenset({3, 4, 6, 7, 9})
TURNED = frozenset({1, 2, 3, 4, 5, 6, 7, 9})
UPSIDE_DOWN = frozenset({3, 4, 7})


def make_examples(
    counts: dict[str, int], digits: Digits, seed: int
) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Make the given number of examples of each of KINDS: images uint8 [N, 28, 56, 1] and labels
    int64 [N]. They depend only on the arguments."""
    chunks = [
        (kind, number, min(CHUNK, count - start))
        for kind, count in counts.items()
        for number, start in enumerate(range(0, count, CHUNK))
    ]
    make = partial(_make_chunk, digits, seed)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        parts = list(tqdm(pool.map(make, chunks), "examples", len(chunks), disable=None))
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _make_chunk(
    digits: Digits, seed: int, chunk: tuple[str, int, int]
) -> tuple[Pixels, npt.NDArray[np.int64]]:
    kind, number, count = chunk
    random = np.random.default_rng([seed, list(KINDS).index(kind), number])
    images, labels = np.zeros((count, *IMAGE_SHAPE), np.uint8), np.zeros(count, np.int64)
    done = 0
    while done < count:
        ink, label = KINDS[kind](digits, random)
        if ink is not None and kind != "plain_digit":
            ink = reduce(ink, random)
        if ink is not None and ink.max() > 0.5:
            image = as_mnist(ink / ink.max(), IMAGE_SHAPE[:2])
            images[done], labels[done] = (255 * image).round(), label
            done += 1
    return images, labels


Example = tuple[Ink | None, int]  # a drawing, or None if it failed, and its class


def plain_digit(digits: Digits, random: Random) -> tuple[Ink, int]:
    i = int(random.integers(len(digits[0])))
    return digits[0][i].astype(np.float32) / 255, int(digits[1][i])


def mnist_digit(digits: Digits, random: Random) -> tuple[Ink, int]:
    i = int(random.integers(len(digits[0])))
    return change_pen(distort(enlarge(digits[0][i]), random), random), int(digits[1][i])


def drawn_digit(_: Digits, random: Random) -> tuple[Ink, int]:
    ink, digit = glyphs.draw_digit(random)
    return distort(ink, random), digit


def digit(digits: Digits, random: Random) -> tuple[Ink, int]:
    return (drawn_digit if random.random() < 0.08 else mnist_digit)(digits, random)


def pair(digits: Digits, random: Random) -> Example:
    (first, tens), (second, ones) = digit(digits, random), digit(digits, random)
    return touch([first, second], random), 10 + 10 * tens + ones


def several(digits: Digits, random: Random) -> Example:
    """Three or four touching digits."""
    count = int(random.integers(3, 5))
    return touch([digit(digits, random)[0] for _ in range(count)], random), OTHER


def letter(_: Digits, random: Random) -> tuple[Ink, int]:
    return change_pen(distort(glyphs.draw_letter(random), random), random), OTHER


def letter_pair(digits: Digits, random: Random) -> Example:
    return touch([letter(digits, random)[0] for _ in range(2)], random), OTHER


def scribble(_: Digits, random: Random) -> Example:
    return distort(glyphs.draw_scribble(random), random), OTHER


def sign(_: Digits, random: Random) -> Example:
    return distort(glyphs.draw_sign(random), random), OTHER


def shape(_: Digits, random: Random) -> Example:
    return distort(glyphs.draw_shape(random), random), OTHER


def turned_digit(digits: Digits, random: Random) -> Example:
    ink, number = mnist_digit(digits, random)
    kind = random.integers(3)
    if kind == 0:
        turned, others = ink[:, ::-1], MIRRORED
    elif kind == 1:
        turned, others = np.rot90(ink, random.choice([1, 3])), TURNED
    else:
        turned, others = ink[::-1, ::-1], UPSIDE_DOWN
    return (np.ascontiguousarray(turned) if number in others else None), OTHER


def half_digit(digits: Digits, random: Random) -> Example:
    ink, number = mnist_digit(digits, random)
    ink = crop(ink)
    height, width = ink.shape
    cut = random.uniform(0.35, 0.65)
    if random.random() < 0.5:
        halves = [ink[:, : int(width * cut)], ink[:, int(width * cut) :]]
        usable = number != 1
    else:
        halves = [ink[: int(height * cut)], ink[int(height * cut) :]]
        usable = number not in (1, 6, 9)  # half of them is a 1 or a 0
    half = np.pad(halves[random.integers(2)], 3)
    usable &= half.shape[0] < 3 * half.shape[1]  # anything narrow could be a 1
    return (half if usable else None), OTHER


KINDS: dict[str, Callable[[Digits, Random], Example]] = {
    "plain_digit": plain_digit,
    "digit": digit,
    "drawn_digit": drawn_digit,
    "pair": pair,
    "several": several,
    "letter": letter,
    "letter_pair": letter_pair,
    "scribble": scribble,
    "sign": sign,
    "shape": shape,
    "turned_digit": turned_digit,
    "half_digit": half_digit,
}
