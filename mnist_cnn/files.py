"""Write files completely or not at all, with the same bytes on every system."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_cnn.errors import InputError, describe_exception

if TYPE_CHECKING:  # takes a second to import
    import pandas as pd


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`. The file or folder written there replaces `path` if
    the block succeeds, and is removed if it fails.

    Creates missing parent folders. A killed process leaves `NAME.partial.SUFFIX` behind, which the
    next run overwrites.

    Raises:
        InputError: `path` can't be written, or the disk is full.
    """
    partial = path.with_suffix(f".partial{path.suffix}")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        yield partial
        if path.is_dir():
            _remove(path)
        partial.replace(path)
    except OSError as error:
        failed = Path(error.filename or partial)
        if not (path.is_relative_to(failed) or failed.is_relative_to(partial)):
            raise
        raise InputError(
            f"{path} cannot be written ({describe_exception(error)}): "
            "expected a writable folder and free space"
        ) from error
    finally:
        with suppress(OSError):
            _remove(partial)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Create an empty folder `path`. Remove it and its contents when the block ends.

    Raises:
        InputError: the folder can't be created or written to, or the disk is full.
    """
    try:
        _remove(path)
        path.mkdir(parents=True)
        yield path
    except OSError as error:
        raise InputError(
            f"{path.parent} cannot be written ({describe_exception(error)}): expected a writable "
            "folder and free space"
        ) from error
    finally:
        with suppress(OSError):
            _remove(path)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def reproducible_zip_entry(name: str) -> zipfile.ZipInfo:
    """Return a zip entry that doesn't depend on the time or the system: dated 1980-01-01, the
    earliest date the format allows, and marked as created on Unix (system 3)."""
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    return entry


def read_limited(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises:
        InputError: the file can't be read, or see `check_file`.
    """
    check_file(path, limit)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({describe_exception(error)}): expected a readable file"
        ) from error


def check_file(path: Path, limit: int) -> None:
    """Check that `path` is a regular file of at most `limit` bytes.

    Raises:
        InputError: it is missing, longer, or not a file: reading a pipe or device may never end.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        if status.st_size > limit:
            raise OSError(f"it has {status.st_size:,} bytes")
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise InputError(
            f"{path} cannot be read ({describe_exception(error)}): "
            f"expected a file of at most {limit:,} bytes"
        ) from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write `table` atomically, without its index and with 6 decimals for floats."""
    with write_atomically(path) as partial:
        table.to_csv(partial, index=False, float_format="%.6f", lineterminator="\n")


def write_json(values: dict[str, Any], path: Path) -> None:
    """Write `values` atomically, indented by 2 spaces."""
    with write_atomically(path) as partial:
        text = json.dumps(values, indent=2) + "\n"
        partial.write_text(text, encoding="utf-8", newline="\n")
