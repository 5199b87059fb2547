"""Read the user's own dataset in `data/raw`: an `.npz`, IDX files or folders of pictures.

The files aren't trusted. Nothing in them is executed, and sizes are checked before memory or disk
is used. Images don't have to fit in memory: they are copied in chunks to a file of raw bytes.
"""

import gzip
import io
import math
import os
import reprlib
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from mnist_cnn.data.arrays import MAX_CLASSES, check_classes, read_array, read_header
from mnist_cnn.data.images import Images, StoredArray
from mnist_cnn.data.mnist import Dataset
from mnist_cnn.data.pictures import MAX_PIXELS, SUFFIXES, fit_picture, load_image, picture_kind
from mnist_cnn.errors import InputError, describe_exception
from mnist_cnn.files import read_limited
from mnist_cnn.params import PARAMS_PATH, PrepareParams

RAW = Path("data/raw")
MAX_LABEL_BYTES = 2**26
MAX_LISTING_BYTES = 2**22
MAX_DEPTH = 20  # of folders
LAYOUTS = (
    "an .npz file, a folder with the IDX files train-images-idx3-ubyte[.gz] and so on, or a folder "
    "with one folder of pictures per class, perhaps within folders train, val and test"
)
KEYS = ("x_train", "y_train", "x_test", "y_test")
SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
CHANNELS = {"grayscale": 1, "rgb": 3}

LabelledImages = tuple[Images, npt.NDArray[Any]]
Parts = dict[str, LabelledImages]  # "train" and, if the dataset has them, "validation" and "test"
Reasons = dict[str, str]  # why the file at a path is left out


def load_raw(params: PrepareParams, scratch: Path) -> Dataset:
    """Read the dataset `params.source` in `data/raw`, in one of LAYOUTS. Its images are copied to
    files in the folder `scratch`, which must exist as long as they are used.

    Pictures get the size and colours in `params`; `resize_dataset` does the same for arrays.
    Classes are sorted by number (`.npz`, IDX) or by name (folders, `.npz` with text labels). In a
    folder of IDX files, `classes.txt` may name them, one per line.

    Raises:
        InputError: it is missing, damaged, too large, links outside `data/raw` or has one class; or
            images have a wrong shape or no label, or its parts differ in shape or classes.
    """
    source = RAW / params.source
    parts, left_out = _read_layout(source, params, scratch)
    for images, labels in parts.values():
        _check_images(source, images, labels)
    train_images, train_labels = parts["train"]
    values = _unique(train_labels)
    for part, (images, labels) in parts.items():
        if images.shape[1:] != train_images.shape[1:]:
            raise InputError(
                f"{source} has training images of shape {train_images.shape[1:]} but {part} images "
                f"of shape {images.shape[1:]}: expected the same"
            )
        if (differing := np.setxor1d(values, _unique(labels), assume_unique=True)).size:
            raise InputError(
                f"{source}: {reprlib.repr(str(differing[0]))} has only training or only {part} "
                "images: expected the same classes in both"
            )
    names = _class_names(source, values)
    numbered = {
        part: (images, np.searchsorted(values, labels)) for part, (images, labels) in parts.items()
    }
    arrays: dict[str, Any] = {
        f"{part}_{kind}": array
        for part, labelled in numbered.items()
        for kind, array in zip(("images", "labels"), labelled, strict=True)
    }
    return Dataset(**arrays, classes=np.array(names), left_out=left_out)


def _unique(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # Counting makes NumPy sort. Otherwise it hashes, which took 3 million 40 seconds.
    return np.unique(labels, return_counts=True)[0]


def _check_images(source: Path, images: Images, labels: npt.NDArray[Any]) -> None:
    ndim, size = len(images.shape), math.prod(images.shape)
    if ndim not in (3, 4) or not size or images.shape[3:] not in ((), (1,), (3,)):
        raise InputError(
            f"{source} has images of shape {list(images.shape)}: expected [N, H, W] or "
            "[N, H, W, C] with 1 or 3 channels, and no dimension of 0"
        )
    if math.prod(images.shape[1:3]) > MAX_PIXELS:
        raise InputError(
            f"{source} has images of {images.shape[1]} x {images.shape[2]} pixels: expected at "
            f"most {MAX_PIXELS:,}; reduce them"
        )
    if len(images) != len(labels):
        raise InputError(
            f"{source} has {len(images)} images but {len(labels)} labels: expected one each"
        )


def _class_names(source: Path, values: npt.NDArray[Any]) -> list[str]:
    """Return the names of the classes with the given labels."""
    names = [str(value) for value in values[: MAX_CLASSES + 1]]
    listing = source / "classes.txt"
    if values.dtype.kind in "iu" and listing.exists():
        with _reading(listing, f"the names of {len(names)} classes, one per line"):
            text = read_limited(_inside(listing), MAX_LISTING_BYTES).decode("utf-8-sig")
            names = [line.rstrip("\n") for line in io.StringIO(text, newline=None)]
            if len(names) != len(values):
                raise ValueError(f"it has {len(names)} names")
    with _reading(source, f"from 2 to {MAX_CLASSES:,}, with different, printable names; rename it"):
        check_classes(names)
    return names


def _read_layout(source: Path, params: PrepareParams, scratch: Path) -> tuple[Parts, Reasons]:
    with _reading(source, LAYOUTS):
        if not _inside(source).exists():
            raise InputError(f"{source} does not exist: expected {LAYOUTS}")
        entries = _entries(source) if source.is_dir() else []
    if source.suffix == ".npz" and source.is_file():
        return _read_npz(source, scratch), {}
    if any("-idx" in path.name for path in entries):
        return _read_idx_files(source, scratch), {}
    if any(path.is_dir() for path in entries):
        return _read_folders(source, params, scratch)
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
    if len(folder.parts) > MAX_DEPTH:
        raise InputError(
            f"{Path(*folder.parts[:3])} has folders in folders in folders, more than {MAX_DEPTH} "
            "deep: expected one folder of pictures per class"
        )
    with _reading(folder, "a folder that can be listed"), os.scandir(folder) as scanned:
        entries = [entry for entry in scanned if not entry.name.startswith(".")]
        for entry in entries:
            if not entry.name.isprintable():  # includes names that aren't UTF-8
                raise InputError(
                    f"{folder} holds {entry.name!a}: expected printable names; rename it"
                )
            if entry.is_symlink():
                _inside(folder / entry.name)
            if not (entry.is_file() or entry.is_dir()):  # reading a FIFO might never end
                raise InputError(f"{folder / entry.name} is neither a file nor a folder: remove it")
    return [folder / name for name in sorted(entry.name for entry in entries)]


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


def _read_npz(path: Path, scratch: Path) -> Parts:
    keys = "x_train and y_train, and optionally x_test and y_test"
    with (
        _reading(path, f"an .npz with {keys}: images uint8, labels [N] integers or text"),
        zipfile.ZipFile(path) as archive,
    ):
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        if names not in (set(KEYS), set(KEYS[:2])):
            raise ValueError(f"it holds {reprlib.repr(sorted(names))}")
        images = [_read_npz_images(archive, key, scratch) for key in KEYS[::2] if key in names]
        labels = [_read_npz_labels(archive, key) for key in KEYS[1::2] if key in names]
        if len({part.dtype.kind == "U" for part in labels}) == 2:
            raise ValueError("only one of y_train and y_test is text")
    return dict(zip(("train", "test"), zip(images, labels, strict=True), strict=False))


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
    return read_array(archive, name).ravel()


def _read_idx_files(folder: Path, scratch: Path) -> Parts:
    parts: Parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
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
        parts[part] = images, np.fromfile(labels.path, np.uint8)
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


def _read_folders(source: Path, params: PrepareParams, scratch: Path) -> tuple[Parts, Reasons]:
    folders = _split_folders(source)
    left_out: Reasons = {}
    pictures = {part: _list_pictures(folder, left_out) for part, folder in folders.items()}
    shape = _picture_shape([path for paths in pictures.values() for path in paths], params)
    _check_disk(source, sum(map(len, pictures.values())) * math.prod(shape))
    unreadable: Reasons = {}
    parts = {
        part: _read_pictures(paths, shape, params.resizing, scratch / part, unreadable)
        for part, paths in pictures.items()
    }
    if unreadable and not params.skip_unreadable:
        *others, last = [f"{path} cannot be used: {reason}" for path, reason in unreadable.items()]
        remedy = f"repair or remove it, or set prepare.skip_unreadable in {PARAMS_PATH}"
        raise InputError("\n".join([*others, f"{last}; {remedy}"]))
    for part, (_, labels) in parts.items():
        if lost := sorted(set(pictures[part].values()).difference(labels)):
            raise InputError(
                f"{folders[part] / lost[0]} has no picture that can be read: expected those of a "
                "class; repair them, or remove the folder"
            )
    return parts, left_out | unreadable


def _split_folders(source: Path) -> dict[str, Path]:
    """Return the folders that hold one folder per class, by the part of the dataset they are: those
    in SPLIT_FOLDERS or, without a folder `train` that has subfolders, `source` itself."""
    entries = _entries(source)
    if files := [path for path in entries if path.name in SPLIT_FOLDERS and not path.is_dir()]:
        raise InputError(f"{files[0]} is a file: expected a folder; unpack, rename or remove it")
    folders = {path.name: path for path in entries if path.is_dir()}
    if "train" not in folders or not any(path.is_dir() for path in _entries(folders["train"])):
        return {"train": source}
    parts = {"train": folders.pop("train")}
    for name, folder in folders.items():
        part = SPLIT_FOLDERS.get(name, "train")
        if part in parts:
            raise InputError(
                f"{folder} is not used: expected only the folders train, val and test; rename it "
                "or move it away"
            )
        parts[part] = folder
    return parts


def _list_pictures(folder: Path, left_out: Reasons) -> dict[Path, str]:
    """Return the pictures in the class folders in `folder`, at any depth, with their classes. Add
    the other files to `left_out`."""
    pictures: dict[Path, str] = {}
    for path in _entries(folder):
        if not path.is_dir():
            left_out[path.as_posix()] = "not in the folder of a class"
            continue
        found = []
        for file in _walk(path):
            if file.suffix.lower() in SUFFIXES:
                found.append(file)
            else:
                left_out[file.as_posix()] = "not a picture"
        if not found:
            raise InputError(
                f"{path} has no pictures: expected those of a class ({', '.join(SUFFIXES)}); "
                "add some, or remove the folder"
            )
        pictures |= dict.fromkeys(found, path.name)
    if not pictures:
        raise InputError(f"{folder} has no folders: expected one folder of pictures per class")
    return pictures


def _walk(folder: Path) -> Iterator[Path]:
    for path in _entries(folder):
        if not path.is_dir():
            yield path
        elif path.is_symlink():  # a few links to one another could hold any number of files
            raise InputError(
                f"{path} links to a folder: expected files in the folder of a class; copy them"
            )
        else:
            yield from _walk(path)


def _picture_shape(files: list[Path], params: PrepareParams) -> tuple[int, ...]:
    """Return the shape of the images: the size and colours in `params` or, if these aren't set, the
    pictures' own. Pictures that can't be opened are reported later, when they are decoded."""
    size, color_mode = params.image_size, params.color_mode
    if size is None or color_mode is None:
        sizes, colourful = set(), False
        for path in tqdm(files, desc="sizes", unit="picture", disable=None, leave=False):
            with suppress(InputError):
                own_size, has_colours = picture_kind(path)
                sizes.add(own_size)
                colourful |= has_colours
        if size is None and len(sizes) > 1:
            smallest, *_, largest = sorted(sizes, key=math.prod)
            raise InputError(
                f"{RAW / params.source} has pictures of different sizes, from "
                f"{smallest[0]} x {smallest[1]} to {largest[0]} x {largest[1]} pixels: set "
                f"prepare.image_size in {PARAMS_PATH}, such as [64, 64]"
            )
        size = size or list(max(sizes, default=(1, 1)))
        color_mode = color_mode or ("rgb" if colourful else "grayscale")
    return *size, CHANNELS[color_mode]


def _read_pictures(
    pictures: dict[Path, str],
    shape: tuple[int, ...],
    resizing: str,
    copy: Path,
    unreadable: Reasons,
) -> LabelledImages:
    """Copy the pixels of the `pictures` to the file `copy`. Add those that can't be read to
    `unreadable`."""
    labels = []
    with copy.open("wb") as pixels:
        for path, label in tqdm(pictures.items(), unit="picture", disable=None, leave=False):
            try:
                pixels.write(load_image(path, shape, resizing).data)
                labels.append(label)
            except InputError as error:
                unreadable[path.as_posix()] = str(error)
    stored = StoredArray(copy, 0, (len(labels), *shape), np.dtype(np.uint8))
    return stored, np.array(labels, dtype=np.str_)


def resize_dataset(dataset: Dataset, params: PrepareParams, scratch: Path) -> Dataset:
    """Fit the images to the size and colours in `params`, if these are set and differ. The results
    are written to files in the folder `scratch`, which must exist as long as they are used.

    Raises:
        InputError: they need more disk space than is free.
    """
    height, width, *channels = dataset.train_images.shape[1:]
    size = params.image_size or (height, width)
    count = CHANNELS[params.color_mode] if params.color_mode else (*channels, 1)[0]
    shape = (*size, count)
    if shape == (height, width, *(channels or [1])):
        return dataset
    pixels = (height, width, 3) if channels == [3] else (height, width)  # as Pillow wants them
    parts = (dataset.train_images, dataset.validation_images, dataset.test_images)
    _check_disk(RAW / params.source, sum(map(len, parts)) * math.prod(shape))
    resized: dict[str, Any] = {}
    for name in ("train_images", "validation_images", "test_images"):
        images = getattr(dataset, name)
        if len(images):
            path = scratch / f"{name}.resized"
            with path.open("wb") as file:
                bar = tqdm(range(len(images)), unit="image", delay=1, disable=None, leave=False)
                for index in bar:
                    picture = Image.fromarray(images[index].reshape(pixels))
                    file.write(fit_picture(picture, shape, params.resizing).data)
            resized[name] = StoredArray(path, 0, (len(images), *shape), np.dtype(np.uint8))
    return dataset._replace(**resized)
