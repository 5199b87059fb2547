"""`python -m benchmarks.pictures [MODEL]`: measure how accurately digits in pictures are read.

The pictures are drawn by `benchmarks.pages`, and each depends only on the family, its kind, the
seed and its number. A row counts as read if all of its digits are.
"""

import argparse
import io
import time
import zlib
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from tqdm import tqdm

from benchmarks.pages import FAMILIES, KINDS, Family, make
from mnist_cnn.errors import InputError
from mnist_cnn.model.formats import Model
from mnist_cnn.reading.reader import READER, load_reader, read_digits

Answer = tuple[int | None, bool]  # the digit, and whether that is sure


class Result(NamedTuple):
    kind: str
    labels: list[int | None]
    answers: list[Answer]
    milliseconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how accurately pictures are read.")
    parser.add_argument("model", nargs="?", type=Path, default=READER)
    parser.add_argument("--family", choices=FAMILIES, default="report")
    parser.add_argument("--count", type=int, default=200, help="pictures of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="save a right and a wrong example of each kind")
    arguments = parser.parse_args()
    model, family = load_reader(arguments.model), FAMILIES[arguments.family]()
    results: list[Result] = []
    examples: dict[tuple[str, bool], tuple[bytes, Result]] = {}
    for kind in tqdm(KINDS, disable=None):
        if getattr(family, KINDS[kind].source) is None:
            print(f"{kind}: skipped, because the package dataset-fashion-mnist isn't installed")
            continue
        for number in range(arguments.count):
            file, labels = draw(kind, family, arguments.family, arguments.seed, number)
            results.append(timed(model, kind, file, labels))
            examples.setdefault((kind, right(results[-1])), (file, results[-1]))
    for table in tables(results):
        print(
            table.to_markdown(floatfmt=("", ".0f", *[".1%"] * (table.shape[1] - 2), ".1f")) + "\n"
        )
    if arguments.sheet:
        contact_sheet(list(examples.values())).save(arguments.sheet)


def draw(
    kind: str, family: Family, name: str, seed: int, number: int
) -> tuple[bytes, list[int | None]]:
    words = [zlib.crc32(word.encode()) for word in (name, kind)]
    return make(KINDS[kind], family, np.random.default_rng([seed, number, *words]))


def read(model: Model, file: bytes, multiple: bool) -> list[Answer]:
    try:
        answers = read_digits(model, io.BytesIO(file), multiple).answers
    except InputError:
        return []
    return [(answer.digit, answer.sure) for answer in answers]


def timed(model: Model, kind: str, file: bytes, labels: list[int | None]) -> Result:
    start = time.perf_counter()
    answers = read(model, file, multiple=KINDS[kind].most > 1)
    return Result(kind, labels, answers, 1000 * (time.perf_counter() - start))


def is_sure(result: Result) -> bool:
    return len(result.answers) > 0 and all(sure for _, sure in result.answers)


def right(result: Result) -> bool:
    """Return whether all digits are read or, if there are none, none is read surely."""
    if None in result.labels:
        return not is_sure(result)
    return [digit for digit, _ in result.answers] == result.labels


def tables(results: list[Result]) -> list[pd.DataFrame]:
    """Return a table for digits and one for other things."""
    digits, others = {}, {}
    for kind in dict.fromkeys(result.kind for result in results):
        own = [result for result in results if result.kind == kind]
        sure = [result for result in own if is_sure(result)]
        wrong = [result for result in sure if not right(result)]
        speed = median(result.milliseconds for result in own)
        if own[0].labels[0] is None:
            others[kind] = [len(own), len(sure) / len(own), speed]
        else:
            missed = len(wrong) / max(len(sure), 1)
            digits[kind] = [
                len(own),
                sum(map(right, own)) / len(own),
                len(sure) / len(own),
                missed,
                speed,
            ]
    columns = ["pictures", "read correctly", "answered surely", "wrong among these", "median ms"]
    return [
        pd.DataFrame.from_dict(digits, "index", columns=columns),
        pd.DataFrame.from_dict(
            others, "index", columns=["pictures", "surely a digit", "median ms"]
        ),
    ]


def contact_sheet(examples: list[tuple[bytes, Result]]) -> Image.Image:
    """Show examples in rows of six: what each is and, in green or red, how it was read."""
    side = 250
    whole = Image.new("RGB", (6 * side, -(-len(examples) // 6) * side), "white")
    write = ImageDraw.Draw(whole)
    for number, (file, result) in enumerate(examples):
        picture = Image.open(io.BytesIO(file)).convert("RGB")
        scale = (side - 20) / max(picture.size)
        width, height = (max(round(length * scale), 1) for length in picture.size)
        left, top = number % 6 * side, number // 6 * side
        whole.paste(picture.resize((width, height)), (left, top + 14))
        answers = "".join(
            f"{'-' if digit is None else digit}{'' if sure or digit is None else '?'}"
            for digit, sure in result.answers
        )
        colour = "darkgreen" if right(result) else "red"
        write.text((left, top), f"{result.kind}: {answers}", colour, font_size=12)
    return whole


if __name__ == "__main__":
    main()
