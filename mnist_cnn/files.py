"""Output files: all or nothing, and the same bytes on any system."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_cnn.errors import InputError

if TYPE_CHECKING:  # it takes a second to import
    import pandas as pd


@contextmanager
def replacing(*paths: Path) -> Iterator[list[Path]]:
    """Yield a path beside each of `paths` to write to, an empty file that a folder may replace;
    when the block succeeds, what was written takes the places of `paths`, one after the other.
    When it fails, all of them stay as they were.

    Folders are created where they are missing. A process killed in between leaves files
    `NAME.partial.SUFFIX` behind, which the next run overwrites.

    Raises:
        InputError: at the start, a folder cannot be written; later, the disk is full.
    """
    partials = [path.with_suffix(f".partial{path.suffix}") for path in paths]
    try:
        for partial in partials:
            partial.parent.mkdir(parents=True, exist_ok=True)
            _remove(partial)
            partial.touch()
        yield partials
        for partial, path in zip(partials, paths, strict=True):
            if partial.is_dir() and path.is_dir():
                _remove(path)
            partial.replace(path)
    except OSError as error:
        raise InputError(
            f"{', '.join(map(str, paths))} cannot be written ({error.strerror or error}): "
            "expected a writable folder and free space"
        ) from error
    finally:
        for partial in partials:
            with suppress(OSError):
                _remove(partial)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Make the folder `path` anew, also where a killed process left one, and remove it with all
    that it holds when the block ends.

    Raises:
        InputError: it cannot be written.
    """
    try:
        _remove(path)
        path.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}): expected a writable folder"
        ) from error
    try:
        yield path
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Put `path` back as it was when the block, which may show there how far it is, fails."""
    backup = path.with_suffix(f".backup.partial{path.suffix}")
    backup.unlink(missing_ok=True)
    if path.exists():
        shutil.copyfile(path, backup)
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        if backup.exists():
            backup.replace(path)
        raise
    finally:
        backup.unlink(missing_ok=True)


def fixed_entry(name: str) -> zipfile.ZipInfo:
    """An entry for a zip archive that is the same at any time and on any system: dated 1980-01-01,
    the earliest that the format knows, made on Unix (system 3)."""
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    return entry


def digest(path: Path) -> str:
    """The SHA-256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write `table` without its index, fractions with 6 decimals, lines ending in "\\n"."""
    table.to_csv(path, index=False, float_format="%.6f", lineterminator="\n")


def write_json(values: dict[str, Any], path: Path) -> None:
    """Write `values` indented by 2, lines ending in "\\n"."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8", newline="\n")
