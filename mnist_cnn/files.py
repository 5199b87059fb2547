"""Write files completely or not at all, with the same bytes on every system."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_cnn.errors import InputError, describe_exception

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:  # takes a second to import
    import pandas as pd


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path. The file or folder written there replaces `path` if the block
    succeeds, and is removed if it fails.

    Raises:
        InputError: `path` can't be written, or the disk is full.
    """
    try:
        with _own_folder(path.parent) as folder:
            yield (partial := folder / path.name)
            if path.is_dir():
                shutil.rmtree(path)
            partial.replace(path)
    except OSError as error:
        failed = Path(error.filename or path)
        if not path.is_relative_to(failed) and not _is_partial(failed):
            raise
        raise InputError(
            f"{path} cannot be written ({describe_exception(error)}): "
            "expected a writable folder and free space"
        ) from error


def _is_partial(path: Path) -> bool:
    return any(part.endswith(".partial") for part in path.parts)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Create an empty folder in `parent`. Remove it and its contents when the block ends.

    Raises:
        InputError: the folder can't be created or written to, or the disk is full.
    """
    try:
        with _own_folder(parent) as folder:
            yield folder
    except OSError as error:
        raise InputError(
            f"{parent} cannot be written ({describe_exception(error)}): expected a writable "
            "folder and free space"
        ) from error


@contextmanager
def _own_folder(parent: Path) -> Iterator[Path]:
    """Create a folder `*.partial` in `parent` that no other process uses, and missing parents.
    Remove it when the block ends, and those that killed processes left behind.

    The system unlocks the folder when its process ends. Windows has no such locks: there, the
    folder of a process that runs at the same time is removed, too.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with _lock(parent):  # so that no folder is seen before it's locked
        for leftover in parent.glob("*.partial"):
            with suppress(OSError), _lock(leftover, wait=False):
                shutil.rmtree(leftover)
        folder = Path(tempfile.mkdtemp(".partial", "", parent))
        lock = ExitStack()
        lock.enter_context(_lock(folder))
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _lock(folder: Path, wait: bool = True) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


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
