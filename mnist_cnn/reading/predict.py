"""`mnist-cnn-predict PATH...`: read the digits in pictures, or tell the pictures' classes.

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

from mnist_cnn.data.pictures import MAX_BYTES, SUFFIXES, File
from mnist_cnn.errors import InputError, printable, report_errors
from mnist_cnn.files import write_atomically
from mnist_cnn.model.formats import FORMATS, Model
from mnist_cnn.reading.classify import Classification, classify_picture
from mnist_cnn.reading.reader import READER, Reading, load_reader, read_digits

Answer = Reading | Classification


class Result(NamedTuple):
    """The answer to the picture at a path, or an error."""

    path: str
    answer: Answer | None
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
            if arguments.explain and result.answer:
                stem = Path(path).stem or "input"
                _explain(result.answer, arguments.explain / f"{number:04}-{stem}.png")
            exit_codes.add(_exit_code(result))
            yield result

    PRINTERS[arguments.format](model, results())
    sys.exit(1 if 1 in exit_codes else max(exit_codes))


def find_answer(model: Model, file: File, multiple: bool) -> Answer:
    """Read a picture's digits or tell its class, as the model does.

    Raises:
        InputError: see `read_digits` and `classify_picture`.
    """
    if model.reads_digits:
        return read_digits(model, file, multiple)
    return classify_picture(model, file)


def describe_nothing(model: Model) -> dict[str, Any]:
    """Describe in JSON's types that there is no answer."""
    if model.reads_digits:
        return {"digits": [], "sheet": None}
    return {"class": None, "confidence": None, "sure": False}


def add_model_option(parser: argparse.ArgumentParser) -> None:
    suffixes = sorted({entry.path.suffix for entry in FORMATS.values()} - {""})
    parser.add_argument(
        "--model",
        type=Path,
        default=READER,
        help=f"a SavedModel folder or a {', '.join(suffixes)} file, such as "
        f"{FORMATS['onnx'].path}, for single digits or your own classes (default: the packaged "
        "reader of digits)",
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
        file = _standard_input() if path == "-" else Path(path)
        return Result(path, find_answer(model, file, multiple), None)
    except InputError as error:
        return Result(path, None, str(error))


def _standard_input() -> io.BytesIO:
    if sys.stdin is None:
        raise InputError("standard input is closed: expected a picture")
    return io.BytesIO(sys.stdin.buffer.read(MAX_BYTES + 1))


def _exit_code(result: Result) -> int:
    if result.answer is None:
        return 1
    return 3 if result.answer.doubts else 0


def _print_table(model: Model, results: Iterable[Result]) -> None:
    width, heading = 10, "digits"
    if model.metadata and not model.reads_digits:
        width, heading = max(width, *map(len, model.metadata.classes)), "class"
    print(f"{heading:<{width}}  confidence  picture")
    for path, answer, error in results:
        name, confidence = (answer.text, f"{answer.confidence:.1%}") if answer else ("", "")
        doubts = ", ".join(answer.doubts) if answer else error
        notes = ": ".join(note for note in (path or "''", doubts) if note)
        print(f"{name:<{width}}  {confidence:>10}  {printable(notes)}", flush=True)


def _print_json(model: Model, results: Iterable[Result]) -> None:
    for path, answer, error in results:
        described = answer.describe() if answer else describe_nothing(model)
        print(json.dumps({"path": path, **described, "error": error}), flush=True)


def _print_csv(model: Model, results: Iterable[Result]) -> None:
    places = ("left", "top", "right", "bottom")
    what = ("digit", "confidence", "sure", *places, "reason")
    names = what if model.reads_digits else describe_nothing(model)
    writer = csv.DictWriter(sys.stdout, ("path", *names, "error"), lineterminator="\n")
    writer.writeheader()
    for path, answer, error in results:
        if error:
            writer.writerow({"path": path, "error": error})
        elif isinstance(answer, Classification):
            writer.writerow({"path": path, **answer.describe()})
        elif answer:
            for digit in answer.describe()["digits"]:
                box = dict(zip(places, digit.pop("box"), strict=True))
                writer.writerow({"path": path, **digit, **box})


PRINTERS: dict[str, Callable[[Model, Iterable[Result]], None]] = {
    "table": _print_table,
    "json": _print_json,
    "csv": _print_csv,
}


def _explain(answer: Answer, path: Path) -> None:
    from mnist_cnn.reading.explain import draw_explanation  # imports matplotlib, which takes long

    with write_atomically(path) as partial:
        draw_explanation(answer).savefig(partial, metadata={"Software": None})


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "mnist-cnn-predict",
        description="Read the digits in pictures, or tell the classes of pictures.",
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
