"""A dataset of the user's own, as it lies in `data/raw`: an `.npz`, IDX files or PNG pictures.

None of it is trusted: it is data, never code, and no memory is taken before the size is checked.
"""

import gzip
import math
import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from mnist_cnn.arrays import read_header
from mnist_cnn.datasets import Dataset
from mnist_cnn.errors import InputError

RAW = Path("data/raw")
MAX_BYTES = 2**30  # of the training images, and of the test images; prepared they are 4 times that
LAYOUTS = (
    "an .npz file, a folder with the IDX files train-images-idx3-ubyte[.gz] and so on, or a folder "
    "with a folder `train` that holds a folder of PNG pictures for each class"
)
KEYS = ("x_train", "y_train", "x_test", "y_test")
MODES = {"L": (), "RGB": (3,)}

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[Any]
Part = tuple[Images, Labels]

Image.MAX_IMAGE_PIXELS = None  # Pillow only warns; MAX_BYTES is enforced


def load_raw(name: str) -> Dataset:
    """The dataset that lies in `data/raw` as `name`, in one of LAYOUTS.

    Classes are numbered in the order of their numbers (`.npz`, IDX) or names (folders, `.npz` with
    text for labels).

    Raises:
        InputError: it is missing, damaged, too large, leads out of `data/raw`, or its training and
            test images are no images, differ in size or colour, have no labels or other classes.
    """
    source = RAW / name
    with _reading(source, LAYOUTS):
        if not _inside(source).exists():
            raise InputError(f"{source}: there is no such file or folder; expected {LAYOUTS}")
        names = {path.name for path in _entries(source)} if source.is_dir() else set()
    if source.suffix == ".npz" and source.is_file():
        parts = _read_npz(source)
    elif any("-idx" in name for name in names):
        parts = _read_idx_files(source)
    elif "train" in names:
        parts = _read_folders(source)
    else:
        raise InputError(f"{source} is no dataset: expected {LAYOUTS}")

    shapes, numbers, classes = [], [], []
    for images, labels in parts:
        if images.ndim not in (3, 4) or not images.size or images.shape[3:] not in ((), (1,), (3,)):
            raise InputError(
                f"{source} holds images of shape {list(images.shape)}: expected [N, H, W], or "
                "[N, H, W, C] with 1 or 3 channels, and none of them 0"
            )
        if len(images) != len(labels):
            raise InputError(
                f"{source} holds {len(images)} images with {len(labels)} labels: expected as many"
            )
        values, inverse = np.unique(labels, return_inverse=True)
        shapes.append(images.shape[1:])
        numbers.append(inverse)
        classes.append([str(value) for value in values])
    if shapes[0] != shapes[-1]:
        raise InputError(
            f"{source} holds training images of shape {shapes[0]} and test images of shape "
            f"{shapes[-1]}: expected the same"
        )
    if differing := sorted(set(classes[0]) ^ set(classes[-1])):
        raise InputError(
            f"{source}: of {', '.join(differing)} there are only training or only test images: "
            "expected the same classes in both"
        )
    if len(classes[0]) < 2:
        raise InputError(f"{source} has the one class {classes[0][0]}: expected two or more")
    if bad := [name for name in classes[0] if not name.isprintable() or not name.strip()]:
        raise InputError(f"{source}: {bad[0]!a} names a class: expected printable text")
    train = (parts[0][0], numbers[0])
    test = (parts[1][0], numbers[1]) if len(parts) == 2 else (train[0][:0], train[1][:0])
    return Dataset(*train, *test, np.array(classes[0]))


@contextmanager
def _reading(path: Path, expected: str) -> Iterator[None]:
    """Whatever a damaged file makes of its reader becomes one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{path} cannot be read ({reason}): expected {expected}") from error


def _inside(path: Path) -> Path:
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(RAW)):
        raise InputError(f"{path} leads out of {RAW}: expected no link to elsewhere; copy the data")
    return path


def _entries(folder: Path) -> list[Path]:
    """What lies in `folder`, by name, hidden files left out."""
    with _reading(folder, "a folder that can be listed"):
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
        entries = [path for path in entries if not path.name.startswith(".")]
        for path in entries:
            if not path.name.isprintable():  # nor is what is not UTF-8
                raise InputError(
                    f"{folder} holds {path.name!a}: expected printable names; rename it"
                )
            if path.is_symlink():
                _inside(path)
    return entries


def _check_size(path: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise InputError(f"{path} needs {size:,} bytes of memory: expected at most {MAX_BYTES:,}")


def _read_npz(path: Path) -> list[Part]:
    keys = "x_train and y_train, or these and x_test and y_test"
    with (
        _reading(path, f"an .npz with {keys}: images uint8, labels [N], integers or text"),
        zipfile.ZipFile(path) as archive,
    ):
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        if names not in (set(KEYS), set(KEYS[:2])):
            raise ValueError(f"it holds {', '.join(sorted(names)) or 'nothing'}")
        arrays = [_read_npz_array(archive, name) for name in KEYS if name in names]
        if len({labels.dtype.kind == "U" for labels in arrays[1::2]}) == 2:
            raise ValueError("of y_train and y_test one is text")
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def _read_npz_array(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    entry = archive.getinfo(f"{name}.npy")
    _check_size(Path(str(archive.filename)), entry.file_size)
    shape, dtype = read_header(archive, name)
    if name.startswith("x") and dtype != np.uint8:
        raise ValueError(f"{name} are {dtype}")
    if name.startswith("y") and (dtype.kind not in "iuU" or shape[1:] not in ((), (1,))):
        raise ValueError(f"{name} are {dtype} {list(shape)}")
    with archive.open(entry) as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array.ravel() if name.startswith("y") else array


def _read_idx_files(folder: Path) -> list[Part]:
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
                f"expected {names[0]} and {names[1]}, each once, plain or with .gz"
            )
        parts.append((_read_idx(found[0], 3), _read_idx(found[1], 1)))
    return parts


def _read_idx(path: Path, ndim: int) -> npt.NDArray[np.uint8]:
    """The format of MNIST's own files: a magic number, the sizes, the bytes
    (http://yann.lecun.com/exdb/mnist/)."""
    magic = bytes([0, 0, 8, ndim])
    with (
        _reading(path, f"an IDX file that begins with {magic.hex()}"),
        gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file,
    ):
        header = file.read(4 + 4 * ndim)
        if header[:4] != magic or len(header) < 4 + 4 * ndim:
            raise ValueError(f"it begins with {header[:4].hex() or 'nothing'}")
        shape = struct.unpack(f">{ndim}I", header[4:])
        size = math.prod(shape)
        _check_size(path, size)
        content = file.read(size + 1)
        if len(content) != size:
            held = "more" if len(content) > size else f"{len(content):,}"
            raise ValueError(f"it promises {size:,} bytes for {list(shape)} and holds {held}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_folders(source: Path) -> list[Part]:
    folders = [path for path in _entries(source) if path.is_dir()]
    if unknown := [path for path in folders if path.name not in ("train", "test")]:
        raise InputError(
            f"{unknown[0]} is not looked at: expected the folders `train` and perhaps `test`"
        )
    parts = []
    for folder in reversed(folders):  # train, test
        files, labels = [], []
        for class_folder in _entries(folder):
            if not class_folder.is_dir():
                raise InputError(f"{class_folder} is no folder: expected one for each class")
            pictures = _entries(class_folder)
            if not pictures:
                raise InputError(f"{class_folder} is empty: expected the class's PNG pictures")
            files += pictures
            labels += [class_folder.name] * len(pictures)
        if not files:
            raise InputError(f"{folder} is empty: expected a folder for each class")
        parts.append((_read_pictures(files), np.array(labels)))
    return parts


def _read_pictures(files: list[Path]) -> Images:
    """PNG alone: what a JPEG decodes to differs between systems."""
    images: Images = np.empty(0, np.uint8)
    first = None
    for number, path in enumerate(tqdm(files, unit="picture", disable=None, leave=False)):
        if path.suffix.lower() != ".png" or not path.is_file():
            raise InputError(f"{path} is no PNG file: expected nothing else; convert or remove it")
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
                _check_size(path.parent.parent, math.prod(shape))
                images = np.empty(shape, np.uint8)
            if kind != first:
                raise InputError(
                    f"{path} is {_described(kind)}: expected {_described(first)}, as {files[0]}"
                )
            images[number] = np.asarray(picture)
    return images


def _described(kind: tuple[int, int, str]) -> str:
    return f"{kind[0]} x {kind[1]} pixels, {'grey' if kind[2] == 'L' else 'RGB'}"
