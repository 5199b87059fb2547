"""`python -m benchmarks.pictures [MODEL]`: measure how accurately digits in pictures are read.

MNIST's test images become black ink on white paper: 20 to 400 pixels large, rotated by up to 15
degrees, at random positions, in uneven light and with noise; 2,000 single digits and 500 rows of
four. Digits by other writers are scikit-learn's, 8 x 8 pixels. Each picture is read after
preparation by `mnist_cnn.reading.pictures` and, for comparison, after just scaling it to 28 x 28.
All random choices come from one seed. Takes three minutes on 2 CPU cores.
"""

import io
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits
from tqdm import tqdm

from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.errors import InputError
from mnist_cnn.model.formats import Model, load_model
from mnist_cnn.reading.pictures import find_digits
from mnist_cnn.reading.predict import MODEL

Pixels = npt.NDArray[np.uint8]
SEED = 0
SINGLE, ROWS = 2000, 500


def main(path: Path) -> None:
    model = load_model(path)
    mnist = load_mnist()
    random = np.random.default_rng(SEED)
    chosen = random.choice(len(mnist.test_labels), SINGLE, replace=False)
    pages = [page(mnist.test_images[[i]], random) for i in chosen]
    rows = random.choice(len(mnist.test_labels), (ROWS, 4))
    row_pages = [page(mnist.test_images[row], random) for row in rows]
    others = load_digits()
    tiny = [(image * 255 / 16).astype(np.uint8) for image in others.images]

    results = {
        "test images as they are": measure(
            model, list(np.asarray(mnist.test_images)), mnist.test_labels
        ),
        "black ink on white paper": measure(model, pages, mnist.test_labels[chosen], inverted=True),
        "scikit-learn's digits": measure(model, tiny, others.target),
    }
    table = pd.DataFrame(results, index=["pictures", "just scaled", "prepared", "ms each"]).T
    print(table.to_markdown(floatfmt=("", ".0f", ".2%", ".2%", ".1f")))
    right = sum(
        read_row(model, picture) == mnist.test_labels[row].tolist()
        for picture, row in zip(tqdm(row_pages, disable=None), rows, strict=True)
    )
    print(f"\nrows of four digits read without an error: {right / ROWS:.1%} of {ROWS}")


def page(images: Pixels, random: np.random.Generator) -> Pixels:
    """Draw the digits of `images` [N, 28, 28] in a row on white paper [H, W]."""
    size = int(random.integers(20, 401))
    digits = [_enlarged(image, size, random) for image in images]
    gaps = (random.uniform(0.15, 0.5, len(digits)) * size).astype(int)
    width = int(sum(digit.width for digit in digits) + gaps.sum())
    height = max(digit.height for digit in digits)
    across, down = (int(random.uniform(1, 3) * size) for _ in range(2))
    ink = Image.new("L", (width + across, height + down))
    left, top = random.integers(across + 1), random.integers(down + 1)
    for digit, gap in zip(digits, gaps, strict=True):
        ink.paste(digit, (int(left), int(top + (height - digit.height) // 2)))
        left += digit.width + gap
    y, x = np.ogrid[-1 : 1 : ink.height * 1j, -1 : 1 : ink.width * 1j]
    direction = random.uniform(0, 2 * np.pi)
    shade = (1 + (np.cos(direction) * x + np.sin(direction) * y) / np.sqrt(2)) / 2
    light = 1 - random.uniform(0, 0.5) * shade
    paper = light * (1 - random.uniform(0.6, 1) * np.asarray(ink) / 255)
    noisy = paper + random.normal(0, random.uniform(0, 0.05), paper.shape)
    return np.asarray(255 * np.clip(noisy, 0, 1), np.uint8)


def _enlarged(image: Pixels, size: int, random: np.random.Generator) -> Image.Image:
    digit = Image.fromarray(image)
    digit = digit.crop(digit.getbbox())
    scale = size / max(digit.size)
    shape = (max(round(digit.width * scale), 1), max(round(digit.height * scale), 1))
    digit = digit.resize(shape, Image.Resampling.BICUBIC)
    return digit.rotate(random.uniform(-15, 15), Image.Resampling.BICUBIC, expand=True)


def measure(
    model: Model, pictures: list[Pixels], labels: npt.NDArray[np.uint8], inverted: bool = False
) -> list[float]:
    """Return the number of pictures, the accuracies without and with preparation, and the
    milliseconds per picture for decoding and preparing it."""
    scaled = [np.asarray(Image.fromarray(p).resize((28, 28)), np.float32) / 255 for p in pictures]
    naive = np.stack(scaled).astype(np.float32)[..., np.newaxis]
    answers = model(1 - naive if inverted else naive).argmax(axis=1)
    files = [encoded(picture) for picture in pictures]
    start = time.perf_counter()
    prepared = np.zeros((len(files), 28, 28, 1), np.float32)
    for number, file in enumerate(tqdm(files, disable=None)):
        try:
            prepared[number] = find_digits(file)[0].image
        except InputError:
            prepared[number] = 0  # an empty image, so almost surely misread
    milliseconds = 1000 * (time.perf_counter() - start) / len(files)
    right = model(prepared).argmax(axis=1) == labels
    return [len(pictures), (answers == labels).mean(), right.mean(), milliseconds]


def read_row(model: Model, picture: Pixels) -> list[int]:
    digits = find_digits(encoded(picture), multiple=True)
    answers = model(np.stack([digit.image for digit in digits])).argmax(axis=1)
    return [int(answer) for answer in answers]


def encoded(picture: Pixels) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    file.seek(0)
    return file


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else MODEL)
