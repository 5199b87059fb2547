"""The format of the prepared arrays, `data/prepared/*.npz`."""

import io
import math
import struct
import sys
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from mnist_cnn.data.images import Images, StoredArray
from mnist_cnn.errors import InputError, describe_exception
from mnist_cnn.files import reproducible_zip_entry, write_atomically

MAX_CLASSES = 10_000
MAX_NAME = 255  # characters
DIGITS = np.array(list("0123456789"))  # MNIST's classes

Scalar = TypeVar("Scalar", bound=np.generic)


class Arrays(NamedTuple):
    """Images float32 [N, H, W, C] in [0, 1]; labels int64 [N] in [0, K); classes: the K class
    names, indexed by label, as fixed-width text."""

    images: Images
    labels: npt.NDArray[np.int64]
    classes: npt.NDArray[np.str_] = DIGITS


def write_arrays(
    path: Path,
    images: Iterable[Images],
    labels: npt.NDArray[np.int64],
    classes: npt.NDArray[np.str_] = DIGITS,
) -> None:
    """Write `Arrays` atomically to an `.npz` whose bytes depend on nothing else. The images come in
    chunks [n, H, W, C], so they don't have to fit in memory.

    The arrays aren't compressed. For MNIST's three files together, median of 3 on an AMD EPYC:

        stored      220 MB    write 0.18 s    read 0.11 s    MD5 0.31 s
        compressed   18 MB    write 2.14 s    read 0.69 s    MD5 0.03 s

    Compressed bytes would also differ between the zlib versions that Python is built with.

    Raises:
        InputError: the file can't be written.
    """
    with write_atomically(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        _write_array(archive, "images", len(labels), iter(images))
        _write_array(archive, "labels", len(labels), iter([labels]))
        _write_array(archive, "classes", len(classes), iter([classes]))


def _write_array(
    archive: zipfile.ZipFile, name: str, length: int, chunks: Iterator[Images]
) -> None:
    first = np.ascontiguousarray(next(chunks))
    description = np.lib.format.header_data_from_array_1_0(first)
    description["shape"] = (length, *first.shape[1:])
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, description)
    size = len(header.getvalue()) + length * first[:1].nbytes
    # Before 3.11.4, Python writes an invalid header if zip64 is forced on a small entry
    # (https://github.com/python/cpython/issues/103861).
    large = size > zipfile.ZIP64_LIMIT
    entry = reproducible_zip_entry(f"{name}.npy")
    with archive.open(entry, "w", force_zip64=large) as file:
        file.write(header.getvalue())
        for chunk in chain([first], chunks):
            file.write(np.ascontiguousarray(chunk).data)


def read_arrays(path: Path) -> Arrays:
    """Read an `.npz` written by `write_arrays` and validate its arrays. The images stay in the file
    and are read when they are used.

    Raises:
        InputError: the file is missing, damaged or in another format; or its arrays have the wrong
            name, dtype or shape, a value out of range, no images or unusable class names.
    """
    try:
        if path.exists() and not path.is_file():  # opening a FIFO might never end
            raise ValueError("it is not a regular file")
        with zipfile.ZipFile(path) as archive:
            images = _check_array(archive, "images", np.float32, 4)
            labels = _read_array(archive, "labels", np.int64)
            classes = _read_array(archive, "classes", np.str_)
            low, high = _value_range(archive, images.dtype)
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels")
        if not (low >= 0 and high <= 1):  # also catches NaN
            raise ValueError(f"images lie in [{low}, {high}]")
        if labels.min() < 0 or labels.max() >= len(classes):
            raise ValueError(
                f"labels lie in [{labels.min()}, {labels.max()}] for {len(classes)} classes"
            )
        check_classes(classes.tolist())
        return Arrays(images, labels, classes)
    except Exception as error:  # a damaged file can raise anything
        raise InputError(
            f"{path} is not usable ({describe_exception(error)}): expected images float32 "
            "[N, H, W, C] in [0, 1], labels int64 [N] from 0 to K - 1 and K class names; "
            "recreate it with `dvc repro --force prepare`"
        ) from error


def check_classes(names: list[str]) -> None:
    """Check that there are from 2 to MAX_CLASSES names, which look different, fit on a line and
    disturb neither a terminal nor a page.

    Raises:
        ValueError: they don't.
    """
    if len(names) < 2:
        raise ValueError("it has only one class")
    if len(names) > MAX_CLASSES:
        raise ValueError(f"it has more than {MAX_CLASSES:,} classes")
    seen = set()
    for name in names:
        # "</" would end the script element on DVC's plots page that contains the names.
        if not name.isprintable() or not name.strip() or "</" in name:
            raise ValueError(f"a class is named {_excerpt(name)}, not printable text without </")
        if len(name) > MAX_NAME:
            raise ValueError(f"a class is named {_excerpt(name)}, more than {MAX_NAME} characters")
        if (shown := unicodedata.normalize("NFC", name).strip()) in seen:
            raise ValueError(f"two classes are named {_excerpt(name)}")
        seen.add(shown)


def _excerpt(name: str) -> str:
    return ascii(name if len(name) < 50 else f"{name[:50]}...")


def read_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return the shape and dtype of an array in an `.npz` and the offset of its first value,
    without allocating memory for it.

    Raises:
        ValueError: the array has the wrong size, another version, Python objects, Fortran order or
            more than 4 dimensions.
    """
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{name} have the array format {version}")
        try:
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        except Exception as error:  # NumPy parses it as Python and quotes it in full
            raise ValueError(f"{name} have a damaged header") from error
        start = file.tell()
    if len(shape) > 4 or min(shape, default=0) < 0:
        raise ValueError(f"{name} have a negative dimension or more than 4")
    if dtype.hasobject:
        raise ValueError(f"{name} are Python objects")
    if start + dtype.itemsize * int(np.prod(shape, dtype=object)) != entry.file_size:
        raise ValueError(f"{name} are truncated")
    if fortran_order and len(shape) > 1:
        raise ValueError(f"{name} are in Fortran order; save `numpy.ascontiguousarray({name})`")
    return shape, dtype, start


def _check_array(
    archive: zipfile.ZipFile, name: str, dtype: type[np.generic], ndim: int
) -> StoredArray:
    path = Path(str(archive.filename))
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} are compressed")
    shape, found, start = read_header(archive, name)
    if found.type != dtype or not found.isnative or len(shape) != ndim:
        raise ValueError(f"{name} are {found} {list(shape)}")
    if not entry.file_size == entry.compress_size < path.stat().st_size:
        raise ValueError(f"{name} are truncated")
    if not math.prod(shape):
        raise ValueError(f"{name} are empty, {list(shape)}")
    with path.open("rb") as file:  # a name and an extra field follow the entry's fixed header
        file.seek(entry.header_offset + 26)
        start += entry.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
    return StoredArray(path, start, shape, found)


def _read_array(archive: zipfile.ZipFile, name: str, dtype: type[Scalar]) -> npt.NDArray[Scalar]:
    _check_array(archive, name, dtype, 1)
    return read_array(archive, name)


def read_array(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    """Read an array whose header has been checked.

    Raises:
        ValueError: it's text with numbers that aren't characters, at which Python would fail later.
    """
    with archive.open(f"{name}.npy") as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    if array.dtype.kind == "U" and array.view(f"{array.dtype.byteorder}u4").max() > sys.maxunicode:
        raise ValueError(f"{name} have characters that do not exist")
    return array


def _value_range(archive: zipfile.ZipFile, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the lowest and highest value. Reading all images also verifies their checksum."""
    _, _, start = read_header(archive, "images")
    ranges = []
    with archive.open("images.npy") as file:
        file.read(start)
        while chunk := file.read(2**20):
            values = np.frombuffer(chunk, dtype)
            ranges.append((values.min(), values.max()))
    lows, highs = zip(*ranges, strict=True)
    return np.min(lows), np.max(highs)
