"""`python -m mnist_cnn.predict PATH...`: read the digits in pictures.

Exit code 0: every picture was read. 1: a picture or the model was not usable; the other pictures
have their answers. 3: all were read, but some not surely.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from mnist_cnn.errors import InputError, reported
from mnist_cnn.files import replacing
from mnist_cnn.pictures import Digit, Picture, find_digits
from mnist_cnn.runtimes import Model, Probabilities, load_model

MODEL = Path("models/model.onnx")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
# The probabilities are calibrated: of answers at this confidence, one in ten is wrong.
SURE = 0.9
BATCH_SIZE = 200


class Reading(NamedTuple):
    """What was found in a picture: digits with their probabilities float32 [N, 10], and what
    `as_answers` makes of them; or an error."""

    path: str
    picture: Picture
    digits: list[Digit]
    probabilities: Probabilities
    answers: list[dict[str, Any]]
    error: str | None


@reported
def main() -> None:
    arguments = _parse_arguments()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text
    model = load_model(arguments.model)
    states = set()

    def readings() -> Iterator[Reading]:
        paths = list(_pictures(arguments.paths))
        bar = tqdm(paths, unit="picture", disable=None, leave=False)
        for number, reading in enumerate(read_pictures(model, bar, arguments.multiple), start=1):
            if arguments.explain and reading.digits:
                stem = Path(reading.path).stem or "input"
                _explain(reading, arguments.explain / f"{number:04}-{stem}.png")
            states.add(_state(reading))
            yield reading

    PRINTERS[arguments.format](readings())
    sys.exit(1 if "error" in states else 3 if "not sure" in states else 0)


def read_pictures(model: Model, paths: Iterable[str], multiple: bool) -> Iterator[Reading]:
    """What `model` makes of the pictures at `paths` (`-`: standard input), in their order. An error
    of one leaves the others alone."""
    remaining = iter(paths)
    while batch := list(islice(remaining, BATCH_SIZE)):
        found = [_find(path, multiple) for path in batch]
        images = [digit.image for _, digits, _ in found for digit in digits]
        rows = iter(model(np.stack(images)) if images else ())
        for path, (picture, digits, error) in zip(batch, found, strict=True):
            probabilities = np.array([next(rows) for _ in digits])
            answers = as_answers(digits, probabilities)
            yield Reading(path, picture, digits, probabilities, answers, error)


def as_answers(digits: Iterable[Digit], probabilities: Probabilities) -> list[dict[str, Any]]:
    """Of each of N digits, whose probabilities are float32 [N, 10], what is printed: `digit`, its
    `confidence`, whether that is `sure`, and the `box` left, top, right, bottom in pixels."""
    return [
        {
            "digit": int(row.argmax()),
            "confidence": round(float(row.max()), 4),
            "sure": bool(row.max() >= SURE),
            "box": list(digit.box),
        }
        for digit, row in zip(digits, probabilities, strict=True)
    ]


def _find(path: str, multiple: bool) -> tuple[Picture, list[Digit], str | None]:
    picture = io.BytesIO(sys.stdin.buffer.read()) if path == "-" else Path(path)
    try:
        if isinstance(picture, Path) and picture.is_dir():
            raise InputError(f"the folder holds no picture: expected {', '.join(SUFFIXES)}")
        return picture, find_digits(picture, multiple), None
    except InputError as error:
        return picture, [], str(error)


def _pictures(paths: list[str]) -> Iterator[str]:
    for path in paths:
        inside = sorted(p for p in Path(path).rglob("*") if p.suffix.lower() in SUFFIXES)
        yield from map(str, inside) if inside else [path]


def _state(reading: Reading) -> str:
    if reading.error:
        return "error"
    return "" if all(answer["sure"] for answer in reading.answers) else "not sure"


def _print_table(readings: Iterable[Reading]) -> None:
    print("digits      confidence  picture")
    for reading in readings:
        digits = "".join(str(answer["digit"]) for answer in reading.answers)
        lowest = min((answer["confidence"] for answer in reading.answers), default=None)
        confidence = "" if lowest is None else f"{lowest:.1%}"
        notes = [note for note in (reading.path, reading.error or _state(reading)) if note]
        print(f"{digits:<10}  {confidence:>10}  {': '.join(notes)}", flush=True)


def _print_json(readings: Iterable[Reading]) -> None:
    for reading in readings:
        line = {"path": reading.path, "digits": reading.answers, "error": reading.error}
        print(json.dumps(line), flush=True)


def _print_csv(readings: Iterable[Reading]) -> None:
    names = ("path", "digit", "confidence", "sure", "left", "top", "right", "bottom", "error")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for reading in readings:
        for answer in reading.answers:
            values = (answer["digit"], answer["confidence"], answer["sure"], *answer["box"])
            writer.writerow((reading.path, *values, ""))
        if reading.error:
            writer.writerow((reading.path, *[""] * 7, reading.error))


PRINTERS: dict[str, Callable[[Iterable[Reading]], None]] = {
    "table": _print_table,
    "json": _print_json,
    "csv": _print_csv,
}


def _explain(reading: Reading, path: Path) -> None:
    from mnist_cnn.pictures import read_grey
    from mnist_cnn.plots import explanation

    if isinstance(reading.picture, io.BytesIO):
        reading.picture.seek(0)
    grey, reduction = read_grey(reading.picture)
    boxes = np.array([digit.box for digit in reading.digits]) / reduction
    images = np.stack([digit.image for digit in reading.digits])
    with replacing(path) as (partial,):
        figure = explanation(grey, boxes, images, reading.probabilities)
        figure.savefig(partial, metadata={"Software": None})


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m mnist_cnn.predict",
        description="Read the digits in pictures.",
        epilog="Exit code 0: all were read; 1: a picture or the model was not usable; 3: all were "
        "read, but some not surely.",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a picture, a folder of them, or - for stdin"
    )
    parser.add_argument(
        "--model", type=Path, default=MODEL, help="an .onnx, .tflite or .keras file (%(default)s)"
    )
    parser.add_argument("--format", choices=PRINTERS, default="table", help="(%(default)s)")
    parser.add_argument(
        "--multiple", action="store_true", help="a picture holds several digits, apart from another"
    )
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="FOLDER",
        help="for each picture, draw there what the network saw, and the probabilities",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
