"""`mnist-cnn-predict PATH...`: read the digits in pictures.

Exit code 0: every picture was read. 1: a picture or the model couldn't be used; other pictures are
still read. 3: every picture was read, but some answers are not sure or not digits.
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

from tqdm import tqdm

from mnist_cnn.data.pictures import SUFFIXES
from mnist_cnn.errors import InputError, report_errors
from mnist_cnn.files import write_atomically
from mnist_cnn.model.formats import FORMATS, Model
from mnist_cnn.reading.reader import READER, Reading, load_reader, read_digits


class Result(NamedTuple):
    """The reading of the picture at a path, or an error."""

    path: str
    reading: Reading | None
    error: str | None


@report_errors
def main() -> None:
    arguments = _parse_arguments()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may be invalid Unicode
    model = load_reader(arguments.model)
    exit_codes = {0}

    def results() -> Iterator[Result]:
        paths = list(_expand_folders(arguments.paths))
        bar = tqdm(paths, unit="picture", disable=None, leave=False)
        for number, path in enumerate(bar, start=1):
            result = _read(model, path, arguments.multiple)
            if arguments.explain and result.reading:
                stem = Path(path).stem or "input"
                _explain(result.reading, arguments.explain / f"{number:04}-{stem}.png")
            exit_codes.add(_exit_code(result))
            yield result

    PRINTERS[arguments.format](results())
    sys.exit(1 if 1 in exit_codes else max(exit_codes))


def describe(reading: Reading | None) -> dict[str, Any]:
    """Describe a reading in JSON's types. Each of the `digits` has the `digit` or null, its
    `confidence`, whether that is `sure`, its `box` (left, top, right and bottom) and the `reason`
    if it was refused. The `sheet` that was read is null or its four corners. Both are in the
    picture's own pixels."""
    if reading is None:
        return {"digits": [], "sheet": None}
    digits = [
        {
            "digit": answer.digit,
            "confidence": round(answer.confidence, 4),
            "sure": answer.sure,
            "box": list(answer.box),
            "reason": answer.reason,
        }
        for answer in reading.answers
    ]
    sheet = reading.sheet
    corners = None if sheet is None else (sheet * reading.reduction).round().astype(int).tolist()
    return {"digits": digits, "sheet": corners}


def add_model_option(parser: argparse.ArgumentParser) -> None:
    suffixes = sorted({entry.path.suffix for entry in FORMATS.values()} - {""})
    parser.add_argument(
        "--model",
        type=Path,
        default=READER,
        help=f"a SavedModel folder or a {', '.join(suffixes)} file, such as "
        f"{FORMATS['onnx'].path}, which knows only single digits (default: the packaged reader)",
    )


def _expand_folders(paths: list[str]) -> Iterator[str]:
    for path in paths:
        files = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        pictures = sorted(file for file in files if file.suffix.lower() in SUFFIXES)
        yield from map(str, pictures) if pictures else [path]


def _read(model: Model, path: str, multiple: bool) -> Result:
    """Read the picture at `path`, or from standard input if `path` is `-`."""
    try:
        if os.path.isdir(path):  # noqa: PTH112 # Path.is_dir can fail
            raise InputError(f"the folder contains no pictures: expected {', '.join(SUFFIXES)}")
        file = io.BytesIO(sys.stdin.buffer.read()) if path == "-" else Path(path)
        return Result(path, read_digits(model, file, multiple), None)
    except InputError as error:
        return Result(path, None, str(error))


def _exit_code(result: Result) -> int:
    if result.reading is None:
        return 1
    return 0 if all(answer.sure for answer in result.reading.answers) else 3


def _print_table(results: Iterable[Result]) -> None:
    print("digits      confidence  picture")
    for path, reading, error in results:
        answers = reading.answers if reading else []
        digits = "".join("-" if answer.digit is None else str(answer.digit) for answer in answers)
        lowest = min((answer.confidence for answer in answers), default=None)
        confidence = "" if lowest is None else f"{lowest:.1%}"
        doubts = dict.fromkeys(answer.reason or "not sure" for answer in answers if not answer.sure)
        notes = [note for note in (path, error or ", ".join(doubts)) if note]
        print(f"{digits:<10}  {confidence:>10}  {': '.join(notes)}", flush=True)


def _print_json(results: Iterable[Result]) -> None:
    for path, reading, error in results:
        print(json.dumps({"path": path, **describe(reading), "error": error}), flush=True)


def _print_csv(results: Iterable[Result]) -> None:
    places = ("left", "top", "right", "bottom")
    names = ("path", "digit", "confidence", "sure", *places, "reason", "error")
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    for path, reading, error in results:
        for answer in describe(reading)["digits"]:
            box = dict(zip(places, answer.pop("box"), strict=True))
            writer.writerow({"path": path, **answer, **box})
        if error:
            writer.writerow({"path": path, "error": error})


PRINTERS: dict[str, Callable[[Iterable[Result]], None]] = {
    "table": _print_table,
    "json": _print_json,
    "csv": _print_csv,
}


def _explain(reading: Reading, path: Path) -> None:
    from mnist_cnn.reading.explain import draw_explanation  # imports matplotlib, which takes long

    with write_atomically(path) as partial:
        draw_explanation(reading).savefig(partial, metadata={"Software": None})


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "mnist-cnn-predict",
        description="Read the digits in pictures.",
        epilog="Exit code 0: every picture was read; 1: a picture or the model couldn't be used; "
        "3: every picture was read, but some answers are not sure or not digits.",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a picture, a folder of pictures, or - for stdin"
    )
    add_model_option(parser)
    format_help = "output format (default: %(default)s)"
    parser.add_argument("--format", choices=PRINTERS, default="table", help=format_help)
    multiple_help = "read several digits; two that touch are told apart"
    parser.add_argument("--multiple", action="store_true", help=multiple_help)
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="FOLDER",
        help="for each picture, draw what was found, what the network saw and the probabilities in "
        "FOLDER",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
