"""`mnist-cnn-predict PATH...`: read the digits in pictures.

Exit code 0: every picture was read. 1: a picture or the model couldn't be used; other pictures are
still read. 3: every picture was read, but some answers are not sure.
"""

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from mnist_cnn.errors import InputError, report_errors
from mnist_cnn.files import write_atomically
from mnist_cnn.model.formats import FORMATS, Model, load_model
from mnist_cnn.model.formats.base import Probabilities
from mnist_cnn.reading.pictures import Digit, Picture, find_digits, read_grey

MODEL = FORMATS["onnx"].path
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
# Confidences are calibrated on MNIST. Digits from other writers get lower ones: two thirds of
# scikit-learn's 8 x 8 digits are below this, yet all with 85 to 95 % are read correctly.
SURE = 0.9


class Reading(NamedTuple):
    """The result for a picture: N digits, their probabilities float32 [N, 10] and the output of
    `describe_answers`; or an error."""

    path: str
    picture: Picture
    digits: list[Digit]
    probabilities: Probabilities
    answers: list[dict[str, Any]]
    error: str | None


@report_errors
def main() -> None:
    arguments = _parse_arguments()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may be invalid Unicode
    model = load_model(arguments.model)
    states = set()

    def readings() -> Iterator[Reading]:
        paths = list(_expand_folders(arguments.paths))
        bar = tqdm(paths, unit="picture", disable=None, leave=False)
        for number, path in enumerate(bar, start=1):
            reading = read_picture(model, path, arguments.multiple)
            if arguments.explain and reading.digits:
                stem = Path(path).stem or "input"
                _explain(reading, arguments.explain / f"{number:04}-{stem}.png")
            states.add(_state(reading))
            yield reading

    PRINTERS[arguments.format](readings())
    sys.exit(1 if "error" in states else 3 if "not sure" in states else 0)


def read_picture(model: Model, path: str, multiple: bool) -> Reading:
    """Read the picture at `path`, or from standard input if `path` is `-`."""
    picture = io.BytesIO(sys.stdin.buffer.read()) if path == "-" else Path(path)
    try:
        if os.path.isdir(path):  # noqa: PTH112 # Path.is_dir can fail
            raise InputError(f"the folder contains no pictures: expected {', '.join(SUFFIXES)}")
        digits = find_digits(picture, multiple)
    except InputError as error:
        return Reading(path, picture, [], np.empty((0, 10), np.float32), [], str(error))
    probabilities = model(np.stack([digit.image for digit in digits]))
    answers = describe_answers(digits, probabilities)
    return Reading(path, picture, digits, probabilities, answers, None)


def describe_answers(digits: Iterable[Digit], probabilities: Probabilities) -> list[dict[str, Any]]:
    """Describe each of N digits with probabilities float32 [N, 10]: the `digit`, its `confidence`,
    whether that is `sure`, and its `box` (left, top, right and bottom in pixels)."""
    return [
        {
            "digit": int(row.argmax()),
            "confidence": round(float(row.max()), 4),
            "sure": bool(row.max() >= SURE),
            "box": list(digit.box),
        }
        for digit, row in zip(digits, probabilities, strict=True)
    ]


def add_model_option(parser: argparse.ArgumentParser) -> None:
    suffixes = sorted({entry.path.suffix for entry in FORMATS.values()} - {""})
    parser.add_argument(
        "--model",
        type=Path,
        default=MODEL,
        help=f"a SavedModel folder or a {', '.join(suffixes)} file (default: %(default)s)",
    )


def _expand_folders(paths: list[str]) -> Iterator[str]:
    for path in paths:
        files = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        pictures = sorted(file for file in files if file.suffix.lower() in SUFFIXES)
        yield from map(str, pictures) if pictures else [path]


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
    from mnist_cnn.reading.explain import draw_explanation

    if isinstance(reading.picture, io.BytesIO):
        reading.picture.seek(0)
    grey, reduction = read_grey(reading.picture)
    boxes = np.array([digit.box for digit in reading.digits]) / reduction
    images = np.stack([digit.image for digit in reading.digits])
    with write_atomically(path) as partial:
        figure = draw_explanation(grey, boxes, images, reading.probabilities)
        figure.savefig(partial, metadata={"Software": None})


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "mnist-cnn-predict",
        description="Read the digits in pictures.",
        epilog="Exit code 0: every picture was read; 1: a picture or the model couldn't be used; "
        "3: every picture was read, but some answers are not sure.",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a picture, a folder of pictures, or - for stdin"
    )
    add_model_option(parser)
    format_help = "output format (default: %(default)s)"
    parser.add_argument("--format", choices=PRINTERS, default="table", help=format_help)
    parser.add_argument(
        "--multiple", action="store_true", help="read several digits, which must not touch"
    )
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="FOLDER",
        help="for each picture, draw what the network saw and the probabilities in FOLDER",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
