"""Read the user's own dataset in `data/raw`: an `.npz`, IDX files or folders of PNG pictures.

The files aren't trusted. Nothing in them is executed, and sizes are checked before memory or disk
is used. Images don't have to fit in memory: they are copied in chunks to a file of raw bytes.
"""

import gzip
import math
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from mnist_cnn.data.arrays import read_header
from mnist_cnn.data.images import StoredArray
from mnist_cnn.data.mnist import Dataset
from mnist_cnn.errors import InputError, describe_exception

RAW = Path("data/raw")
MAX_LABEL_BYTES = 2**30
LAYOUTS = (
    "an .npz file, a folder with the IDX files train-images-idx3-ubyte[.gz] and so on, or a folder "
    "with a subfolder `train` that has one folder of PNG pictures per class"
)
KEYS = ("x_train", "y_train", "x_test", "y_test")
MODES = {"L": (), "RGB": (3,)}

Image.MAX_IMAGE_PIXELS = None  # Pillow would only warn; _check_disk raises

LabelledImages = tuple[StoredArray, npt.NDArray[Any]]


def load_raw(name: str, scratch: Path) -> Dataset:
    """Read the dataset `name` in `data/raw`, in one of LAYOUTS. Its images are copied to files in
    the folder `scratch`, which must exist as long as they are used.

    Classes are sorted by number (`.npz`, IDX) or by name (folders, `.npz` with text labels).

    Raises:
        InputError: it is missing, damaged, too large, links outside `data/raw` or has one class; or
            images have a wrong shape or no label, or training and test differ in shape or classes.
    """
    source = RAW / name
    parts = _read_layout(source, scratch)
    shapes, numbers, classes = [], [], []
    for images, labels in parts:
        ndim, size = len(images.shape), math.prod(images.shape)
        if ndim not in (3, 4) or not size or images.shape[3:] not in ((), (1,), (3,)):
            raise InputError(
                f"{source} has images of shape {list(images.shape)}: expected [N, H, W] or "
                "[N, H, W, C] with 1 or 3 channels, and no dimension of 0"
            )
        if len(images) != len(labels):
            raise InputError(
                f"{source} has {len(images)} images but {len(labels)} labels: expected one each"
            )
        values, inverse = np.unique(labels, return_inverse=True)
        shapes.append(images.shape[1:])
        numbers.append(inverse)
        classes.append([str(value) for value in values])
    if shapes[0] != shapes[-1]:
        raise InputError(
            f"{source} has training images of shape {shapes[0]} but test images of shape "
            f"{shapes[-1]}: expected the same"
        )
    if differing := sorted(set(classes[0]) ^ set(classes[-1])):
        raise InputError(
            f"{source}: {', '.join(differing)} has only training or only test images: "
            "expected the same classes in both"
        )
    if len(classes[0]) < 2:
        raise InputError(f"{source} has only the class {classes[0][0]}: expected two or more")
    # "</" would end the script element on DVC's plots page that contains the names.
    names = classes[0]
    if bad := [n for n in names if not n.isprintable() or not n.strip() or "</" in n]:
        raise InputError(
            f"{source} has a class named {bad[0]!a}: expected printable text without </; rename it"
        )
    if len(parts) == 1:
        parts.append((replace(parts[0][0], shape=(0, *shapes[0])), parts[0][1][:0]))
        numbers.append(numbers[0][:0])
    return Dataset(parts[0][0], numbers[0], parts[1][0], numbers[1], np.array(classes[0]))


def _read_layout(source: Path, scratch: Path) -> list[LabelledImages]:
    with _reading(source, LAYOUTS):
        if not _inside(source).exists():
            raise InputError(f"{source} does not exist: expected {LAYOUTS}")
        entries = {path.name for path in _entries(source)} if source.is_dir() else set()
    if source.suffix == ".npz" and source.is_file():
        return _read_npz(source, scratch)
    if any("-idx" in name for name in entries):
        return _read_idx_files(source, scratch)
    if "train" in entries:
        return _read_folders(source, scratch)
    raise InputError(f"{source} is not a dataset: expected {LAYOUTS}")


@contextmanager
def _reading(path: Path, expected: str) -> Iterator[None]:
    """Turn any exception from a damaged file into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = describe_exception(error)
        raise InputError(f"{path} cannot be read ({reason}): expected {expected}") from error


def _inside(path: Path) -> Path:
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(RAW)):
        raise InputError(f"{path} links outside {RAW}: expected files inside it; copy the data")
    return path


def _entries(folder: Path) -> list[Path]:
    """Return the visible files and folders in `folder`, sorted by name."""
    with _reading(folder, "a folder that can be listed"):
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
        entries = [path for path in entries if not path.name.startswith(".")]
        for path in entries:
            if not path.name.isprintable():  # includes names that aren't UTF-8
                raise InputError(
                    f"{folder} holds {path.name!a}: expected printable names; rename it"
                )
            if path.is_symlink():
                _inside(path)
    return entries


def _check_disk(path: Path, size: int) -> None:
    needed = 9 * size  # the copy here (1), the prepared float32 images (4), DVC's cached copy (4)
    free = shutil.disk_usage(RAW).free
    if needed > free:
        raise InputError(
            f"{path} needs {needed:,} bytes of disk space, but only {free:,} are free: "
            "free some space, or use fewer or smaller images"
        )


def _check_labels(path: Path, size: int) -> None:
    if size > MAX_LABEL_BYTES:
        raise InputError(
            f"{path} has {size:,} bytes of labels: expected at most {MAX_LABEL_BYTES:,}"
        )


def _copy_pixels(
    source: IO[bytes] | BufferedIOBase, shape: tuple[int, ...], path: Path
) -> StoredArray:
    """Copy the bytes of a uint8 array of the given shape from `source` to `path`."""
    size = left = math.prod(shape)
    with path.open("wb") as file:
        while left and (chunk := source.read(min(left, 2**20))):
            file.write(chunk)
            left -= len(chunk)
    if left:
        raise ValueError(
            f"its header says {size:,} bytes for {list(shape)}, but it has {size - left:,}"
        )
    return StoredArray(path, 0, shape, np.dtype(np.uint8))


def _read_npz(path: Path, scratch: Path) -> list[LabelledImages]:
    keys = "x_train and y_train, and optionally x_test and y_test"
    with (
        _reading(path, f"an .npz with {keys}: images uint8, labels [N] integers or text"),
        zipfile.ZipFile(path) as archive,
    ):
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        if names not in (set(KEYS), set(KEYS[:2])):
            raise ValueError(f"it holds {', '.join(sorted(names)) or 'nothing'}")
        images = [_read_npz_images(archive, key, scratch) for key in KEYS[::2] if key in names]
        labels = [_read_npz_labels(archive, key) for key in KEYS[1::2] if key in names]
        if len({part.dtype.kind == "U" for part in labels}) == 2:
            raise ValueError("only one of y_train and y_test is text")
    return list(zip(images, labels, strict=True))


def _read_npz_images(archive: zipfile.ZipFile, name: str, scratch: Path) -> StoredArray:
    shape, dtype, start = read_header(archive, name)
    if dtype != np.uint8:
        raise ValueError(f"{name} are {dtype}")
    _check_disk(Path(str(archive.filename)), math.prod(shape))
    with archive.open(f"{name}.npy") as file:
        file.read(start)
        images = _copy_pixels(file, shape, scratch / name)
        file.read()  # reading to the end verifies the checksum
    return images


def _read_npz_labels(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    entry = archive.getinfo(f"{name}.npy")
    _check_labels(Path(str(archive.filename)), entry.file_size)
    shape, dtype, _ = read_header(archive, name)
    if dtype.kind not in "iuU" or shape[1:] not in ((), (1,)):
        raise ValueError(f"{name} are {dtype} {list(shape)}")
    with archive.open(entry) as file:
        labels: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return labels.ravel()


def _read_idx_files(folder: Path, scratch: Path) -> list[LabelledImages]:
    parts = []
    for prefix in ("train", "t10k"):
        names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        found = [
            path
            for name in names
            for path in (folder / name, folder / f"{name}.gz")
            if path.is_file()
        ]
        if prefix == "t10k" and not found:
            break
        if [path.name.removesuffix(".gz") for path in found] != list(names):
            raise InputError(
                f"{folder} holds {', '.join(p.name for p in found) or 'no training images'}: "
                f"expected {names[0]} and {names[1]}, each once, with or without .gz"
            )
        images = _read_idx(found[0], 3, _check_disk, scratch)
        labels = _read_idx(found[1], 1, _check_labels, scratch)
        parts.append((images, np.fromfile(labels.path, np.uint8)))
    return parts


def _read_idx(
    path: Path, ndim: int, check: Callable[[Path, int], None], scratch: Path
) -> StoredArray:
    """Read an IDX file, the original format of MNIST: a magic number, the sizes, the bytes
    (http://yann.lecun.com/exdb/mnist/)."""
    magic = bytes([0, 0, 8, ndim])
    with (
        _reading(path, f"an IDX file that starts with {magic.hex()}"),
        gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file,
    ):
        header = file.read(4 + 4 * ndim)
        if header[:4] != magic or len(header) < 4 + 4 * ndim:
            raise ValueError(f"it starts with {header[:4].hex()}" if header else "it is empty")
        shape = struct.unpack(f">{ndim}I", header[4:])
        check(path, math.prod(shape))
        array = _copy_pixels(file, shape, scratch / path.name)
        if file.read(1):
            raise ValueError(
                f"its header says {math.prod(shape):,} bytes for {list(shape)}, but it has more"
            )
    return array


def _read_folders(source: Path, scratch: Path) -> list[LabelledImages]:
    entries = {path.name: path for path in _entries(source)}
    folders = [entries[name] for name in ("train", "test") if name in entries]
    if unknown := [p for p in entries.values() if p.is_dir() and p not in folders]:
        raise InputError(f"{unknown[0]} is not used: expected only the folders `train` and `test`")
    parts = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder: expected one with a subfolder per class")
        files, labels = [], []
        for class_folder in _entries(folder):
            if not class_folder.is_dir():
                raise InputError(f"{class_folder} is not a folder: expected one folder per class")
            pictures = _entries(class_folder)
            if not pictures:
                raise InputError(f"{class_folder} is empty: expected the class's PNG pictures")
            files += pictures
            labels += [class_folder.name] * len(pictures)
        if not files:
            raise InputError(f"{folder} is empty: expected a folder for each class")
        parts.append((_read_pictures(files, scratch / folder.name), np.array(labels)))
    return parts


def _read_pictures(files: list[Path], copy: Path) -> StoredArray:
    """Read PNG pictures only: JPEG pictures decode to different pixels on different systems."""
    first = None
    with copy.open("wb") as pixels:
        for path in tqdm(files, unit="picture", disable=None, leave=False):
            if path.suffix.lower() != ".png" or not path.is_file():
                raise InputError(
                    f"{path} is not a PNG file: expected PNG files only; convert or remove it"
                )
            with (
                _reading(path, "a PNG picture, 8-bit grey or RGB"),
                Image.open(path, formats=["PNG"]) as picture,
            ):
                kind = (*picture.size, picture.mode)
                if picture.mode not in MODES:
                    raise ValueError(f"its mode is {picture.mode}")
                if first is None:
                    first = kind
                    shape = (len(files), picture.height, picture.width, *MODES[picture.mode])
                    _check_disk(path.parent.parent, math.prod(shape))
                if kind != first:
                    raise InputError(
                        f"{path} has {_describe_picture(kind)}: expected "
                        f"{_describe_picture(first)}, as in {files[0]}"
                    )
                pixels.write(picture.tobytes())
    return StoredArray(copy, 0, shape, np.dtype(np.uint8))


def _describe_picture(kind: tuple[int, int, str]) -> str:
    return f"{kind[0]} x {kind[1]} pixels, {'grey' if kind[2] == 'L' else 'RGB'}"
