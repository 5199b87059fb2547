"""The user's own datasets: three layouts, and one line for any error in them."""

import gzip
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mnist_cnn.data.arrays import read_arrays
from mnist_cnn.data.mnist import Dataset
from mnist_cnn.data.raw import RAW, load_raw, resize_dataset
from mnist_cnn.errors import InputError
from stages import prepare
from tests.helpers import PARAMS, PARAMS_TEXT, ROOT

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 5), dtype=np.uint8)
LABELS = np.arange(40) % 4


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`data/raw` of an empty project in the current folder."""
    monkeypatch.chdir(tmp_path)
    RAW.mkdir(parents=True)
    return RAW


def load(name: str, **changed: object) -> Dataset:
    Path("scratch").mkdir(exist_ok=True)
    params = PARAMS.prepare.model_copy(update={"source": name, **changed})
    return load_raw(params, Path("scratch"))


def write_npz(path: Path, **changed: npt.NDArray[np.generic] | None) -> None:
    arrays: dict[str, Any] = {"x_train": IMAGES, "y_train": LABELS}
    arrays |= {"x_test": IMAGES[:8], "y_test": LABELS[:8], **changed}
    kept = {name: array for name, array in arrays.items() if array is not None}
    np.savez(path, allow_pickle=True, **kept)


def idx(array: npt.NDArray[np.generic]) -> bytes:
    header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, suffix: str = ".gz") -> None:
    folder.mkdir()
    for prefix, count in (("train", 40), ("t10k", 8)):
        for name, array in (("images-idx3", IMAGES[:count]), ("labels-idx1", LABELS[:count])):
            content = gzip.compress(idx(array)) if suffix else idx(array)
            (folder / f"{prefix}-{name}-ubyte{suffix}").write_bytes(content)


def write_folders(source: Path, images: npt.NDArray[np.uint8] = IMAGES) -> None:
    for part, count in (("train", 40), ("test", 8)):
        for number, (image, label) in enumerate(zip(images[:count], LABELS, strict=False)):
            folder = source / part / "abcd"[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:02}.png")


def test_an_npz_with_numbers(raw: Path) -> None:
    write_npz(raw / "own.npz", y_train=LABELS * 5, y_test=LABELS[:8, np.newaxis] * 5)
    dataset = load("own.npz")
    np.testing.assert_array_equal(dataset.train_images, IMAGES)
    np.testing.assert_array_equal(dataset.test_labels, LABELS[:8])
    assert dataset.classes.tolist() == ["0", "5", "10", "15"]


def test_an_npz_with_names_and_without_a_test_set(raw: Path) -> None:
    names = np.array(["zebra", "ape", "cow", "ä"])[LABELS]
    colour = np.stack([IMAGES] * 3, axis=-1)
    np.savez_compressed(raw / "own.npz", x_train=colour, y_train=names)
    dataset = load("own.npz")
    np.testing.assert_array_equal(dataset.train_images, colour)
    assert dataset.classes[dataset.train_labels].tolist() == names.tolist()
    assert dataset.classes.tolist() == ["ape", "cow", "zebra", "ä"]
    assert (dataset.test_images.shape, len(dataset.test_labels)) == ((0,), 0)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files(raw: Path, suffix: str) -> None:
    write_idx(raw / "own", suffix)
    dataset = load("own")
    np.testing.assert_array_equal(dataset.train_images, IMAGES)
    np.testing.assert_array_equal(dataset.train_labels, LABELS)
    np.testing.assert_array_equal(dataset.test_images, IMAGES[:8])
    assert dataset.classes.tolist() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("images", [IMAGES, np.stack([IMAGES] * 3, axis=-1)])
@pytest.mark.parametrize("layout", ["train and test", "train, val and test", "classes only"])
def test_folders_of_pictures(raw: Path, images: npt.NDArray[np.uint8], layout: str) -> None:
    write_folders(raw / "own", images)
    if layout == "train, val and test":
        shutil.copytree(raw / "own/test", raw / "own/val")
    if layout == "classes only":
        shutil.move(raw / "own/train", raw / "classes")
        shutil.rmtree(raw / "own")
        shutil.move(raw / "classes", raw / "own")
    (raw / "own/README.txt").touch()
    dataset = load("own")
    order = np.argsort(LABELS, kind="stable")
    expected = images[order].reshape(40, 6, 5, -1)
    np.testing.assert_array_equal(dataset.train_images, expected)
    np.testing.assert_array_equal(dataset.train_labels, LABELS[order])
    assert len(dataset.test_labels) == (0 if layout == "classes only" else 8)
    assert len(dataset.validation_labels) == (8 if layout == "train, val and test" else 0)
    assert dataset.classes.tolist() == ["a", "b", "c", "d"]


def test_a_class_may_be_called_train(raw: Path) -> None:
    for name in ("bus", "train"):
        draw(raw / "own" / name / "1.png")
    assert load("own").classes.tolist() == ["bus", "train"]


def test_pictures_in_subfolders_belong_to_their_class(raw: Path) -> None:
    write_folders(raw / "own")
    (raw / "own/train/a/more").mkdir()
    shutil.copy(raw / "own/train/a/00.png", raw / "own/train/a/more")
    assert np.bincount(load("own").train_labels).tolist() == [11, 10, 10, 10]


def test_other_files_are_left_out_and_listed(raw: Path) -> None:
    write_folders(raw / "own")
    for name in ("train/a/.DS_Store", "train/a/Thumbs.db", "train/loose.png"):
        (raw / "own" / name).touch()
    dataset = load("own")
    assert len(dataset.train_labels) == 40
    assert dataset.left_out == {
        "data/raw/own/train/a/Thumbs.db": "not a picture",
        "data/raw/own/train/loose.png": "not in the folder of a class",
    }


def test_unreadable_pictures_are_left_out_on_demand(raw: Path) -> None:
    write_folders(raw / "own")
    for name in ("a/x.png", "b/y.png"):
        (raw / "own/train" / name).write_text("no picture")
    with pytest.raises(InputError, match=r"(?s)a/x.png cannot be used.*\n.*b/y.png cannot be used"):
        load("own")
    with pytest.raises(InputError, match="own/train/e has no picture that can be read"):
        make(raw / "own/train/e")
        (raw / "own/train/e/z.png").touch()
        load("own", skip_unreadable=True)
    shutil.rmtree(raw / "own/train/e")
    dataset = load("own", skip_unreadable=True)
    assert np.bincount(dataset.train_labels).tolist() == [10] * 4
    assert [path[-7:] for path in dataset.left_out] == ["a/x.png", "b/y.png"]
    order = np.argsort(LABELS, kind="stable")
    np.testing.assert_array_equal(np.asarray(dataset.train_images)[..., 0], IMAGES[order])


def test_pictures_of_all_kinds_get_one_size_and_colour(raw: Path) -> None:
    for number, (mode, kind) in enumerate(
        [("L", "png"), ("1", "png"), ("P", "gif"), ("RGB", "jpg"), ("RGBA", "png"), ("CMYK", "jpg")]
    ):
        for name in "ab":
            draw(raw / "own" / name / f"{number}.{kind}", mode, (20 + number, 30))
    dataset = load("own", image_size=[8, 6])
    assert np.asarray(dataset.train_images).shape == (12, 8, 6, 3)
    dataset = load("own", image_size=[8, 6], color_mode="grayscale")
    assert np.asarray(dataset.train_images).shape == (12, 8, 6, 1)


def test_pictures_keep_their_size_upright(raw: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in "ab":
        draw(raw / "own" / name / "1.png", "L", (5, 6))
        Image.new("L", (6, 5)).save(raw / "own" / name / "2.jpg", exif=turned)
    assert np.asarray(load("own").train_images).shape == (4, 6, 5, 1)


@pytest.mark.parametrize("shape", [(40, 6, 5), (40, 6, 5, 1), (40, 3, 10, 1), (40, 2, 5, 3)])
def test_arrays_get_one_size_and_colour(raw: Path, shape: tuple[int, ...]) -> None:
    images = IMAGES.reshape(shape)
    write_npz(raw / "own.npz", x_train=images, x_test=images[:8])
    dataset = load("own.npz")
    params = PARAMS.prepare.model_copy(update={"image_size": [12, 10], "color_mode": "rgb"})
    resized = resize_dataset(dataset, params, Path("scratch"))
    assert np.asarray(resized.train_images).shape == (40, 12, 10, 3)
    assert np.asarray(resized.test_images).shape == (8, 12, 10, 3)
    assert resize_dataset(dataset, PARAMS.prepare, Path("scratch")) is dataset


def test_a_list_names_the_classes_of_idx_files(raw: Path) -> None:
    write_idx(raw / "own")
    (raw / "own/classes.txt").write_text("ape\ncow\ndog\nemu\n")
    assert load("own").classes.tolist() == ["ape", "cow", "dog", "emu"]
    for names, complaint in (
        ("ape\ncow\n", "it has 2 names.*: expected the names of 4 classes, one per line"),
        ("ape\ncow\ndog\ndog\n", "two classes are named 'dog'"),
        ("ape\x85cow\ndog\nemu\nfox\n", r"a class is named 'ape\\x85cow'"),
        (
            "ape\n" * 2**21,
            "classes.txt cannot be read .*: expected a file of at most 4,194,304 bytes",
        ),
    ):
        (raw / "own/classes.txt").write_text(names, encoding="utf-8")
        with pytest.raises(InputError, match=complaint):
            load("own")


def test_a_link_within_the_folder_is_followed(raw: Path) -> None:
    write_folders(raw / "own")
    (raw / "own/train/a/link.png").symlink_to("00.png")
    assert np.bincount(load("own").train_labels).tolist() == [11, 10, 10, 10]


# Test ID -> a function that creates the faulty dataset, and part of the error message.
WRONG: dict[str, tuple[Callable[[Path], object], str]] = {}


def change_npz(complaint: str, **changed: npt.NDArray[np.generic] | None) -> None:
    def make(source: Path) -> None:
        write_npz(source, **changed)

    WRONG[f"npz {complaint}"] = (make, complaint)


def change_idx(complaint: str, name: str, content: bytes | None) -> None:
    def make(source: Path) -> None:
        write_idx(source)
        (source / f"{name}-ubyte.gz").unlink()
        if content is not None:
            (source / f"{name}-ubyte.gz").write_bytes(content)

    WRONG[f"idx {complaint}"] = (make, complaint)


def change_folders(complaint: str, change: Callable[[Path], object]) -> None:
    def make(source: Path) -> None:
        write_folders(source)
        change(source)

    WRONG[f"folders {complaint}"] = (make, complaint)


WRONG["nothing"] = (lambda _: None, "own.npz does not exist: expected an .npz")
WRONG["no layout"] = (lambda s: s.mkdir(), "own is not a dataset: expected an")
WRONG["a file"] = (lambda s: s.with_name("own").touch(), "own is not a dataset: expected an .npz")
change_npz("it holds ['x_train']): expected an .npz with x_train and y_train", y_train=None,
           x_test=None, y_test=None)  # fmt: skip
change_npz("it holds ['x_test', 'x_train', 'y_train'])", y_test=None)
change_npz("'x_train', 'x_validation', 'y_test', 'y_train'])", x_validation=IMAGES)
change_npz("x_train are float64)", x_train=IMAGES / 255)
change_npz("x_train are Python objects)", x_train=np.array([{}]))
change_npz("y_train are float64 [40])", y_train=LABELS / 1)
change_npz("y_train are int64 [40, 4])", y_train=np.eye(4, dtype=np.int64)[LABELS])
change_npz("has images of shape [40, 6]: expected [N, H, W]", x_train=IMAGES[..., 0])
change_npz("has images of shape [40, 6, 5, 2]", x_train=np.stack([IMAGES] * 2, -1))
change_npz("has images of shape [0, 6, 5]", x_train=IMAGES[:0], y_train=LABELS[:0])
change_npz("has 40 images but 39 labels: expected one each", y_train=LABELS[:39])
change_npz("training images of shape (6, 5) but test images of shape (5, 5)", x_test=IMAGES[:8, 1:])
change_npz("own.npz: '3' has only training or only test images", y_test=LABELS[:8] % 3)
change_npz("(only one of y_train and y_test is text)", y_test=LABELS[:8].astype(str))
change_npz(
    "(it has only one class): expected from 2 to 10,000", y_train=LABELS * 0, y_test=LABELS[:8] * 0
)
change_npz("a class is named 'a\\nb', not printable text",
           y_train=np.array(["a\nb", "c"])[LABELS % 2], x_test=None, y_test=None)  # fmt: skip
change_npz("a class is named ' '", y_train=np.array([" ", "c"])[LABELS % 2], x_test=None,
           y_test=None)  # fmt: skip
change_npz("a class is named '</script>', not printable text without </)",
           y_train=np.array(["</script>", "c"])[LABELS % 2], x_test=None, y_test=None)  # fmt: skip
for names, complaint in {
    ("a", "x" * 256): "more than 255 characters",
    ("e\u0301", "\u00e9"): "two classes are named",
    ("a", "a "): "two classes are named 'a '",
    ("a", "b\ud800"): "a class is named 'b\\ud800'",
}.items():
    change_npz(complaint, y_train=np.array(names)[LABELS % 2], x_test=None, y_test=None)
change_npz("y_train have characters that do not exist", x_test=None, y_test=None,
           y_train=np.array([0x110000, 65], np.uint32).view("<U1")[LABELS % 2])  # fmt: skip
change_npz("it has more than 10,000 classes", y_train=np.arange(20_000), x_test=None, y_test=None,
           x_train=np.zeros((20_000, 1, 1), np.uint8))  # fmt: skip
change_npz("has images of 1 x 100000001 pixels: expected at most 100,000,000",
           x_train=np.zeros((1, 1, 100_000_001), np.uint8), x_test=None, y_test=None,
           y_train=LABELS[:1])  # fmt: skip


def change_header(complaint: str, header: bytes, size: int) -> None:
    """`x_train` gets the `header` and `size` bytes."""

    def make(source: Path) -> None:
        write_npz(source, x_test=None, y_test=None)
        with zipfile.ZipFile(source) as archive:
            labels = archive.read("y_train.npy")
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr("y_train.npy", labels)
            start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
            archive.writestr("x_train.npy", start + header + bytes(size))

    WRONG[f"npz {complaint} {header[-20:]!r}"] = (make, complaint)


def shaped(shape: tuple[int, ...]) -> bytes:
    return repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode()


change_header("x_train have a negative dimension or more than 4", shaped((-100, -8, 8)), 6400)
change_header("x_train have a negative dimension or more than 4", shaped((1,) * 1000), 1)
change_header("x_train are truncated", shaped((2**63, 2**63, 2**63)), 1)
change_header("x_train have a damaged header", b"[" * 9000, 0)
change_header("x_train have a damaged header", b"[" * 60_000, 0)
change_header("x_train have a damaged header", shaped((1,)).replace(b"(1", b"(" + b"9" * 6000), 0)
TOO_LARGE = struct.pack(">IIII", 0x0803, 2**32 - 1, 2**32 - 1, 2**32 - 1)
change_idx("own holds train-images-idx3-ubyte.gz: expected", "train-labels-idx1", None)
change_idx("own holds train-labels-idx1-ubyte.gz: expected", "train-images-idx3", None)
change_idx("own holds t10k-labels-idx1-ubyte.gz: expected", "t10k-images-idx3", None)
change_idx("it starts with 00000801): expected an IDX file that starts with 00000803",
           "train-images-idx3", gzip.compress(idx(LABELS)))  # fmt: skip
change_idx("(it is empty)", "train-images-idx3", gzip.compress(b""))
change_idx("(Not a gzipped file", "train-images-idx3", idx(IMAGES))
change_idx("(Compressed file ended before", "train-labels-idx1", gzip.compress(idx(LABELS))[:-9])
change_idx("needs 713,053,462,130,316,948,467,701,776,375 bytes of disk space, but only",
           "train-images-idx3", gzip.compress(TOO_LARGE))  # fmt: skip
change_idx("its header says 1,200 bytes for [40, 6, 5], but it has 1,199)",
           "train-images-idx3", gzip.compress(idx(IMAGES)[:-1]))  # fmt: skip
change_idx("its header says 1,200 bytes for [40, 6, 5], but it has more)",
           "train-images-idx3", gzip.compress(idx(IMAGES) + bytes(10**8)))  # fmt: skip
change_folders("train/e has no pictures: expected those of a", lambda s: (s / "train/e").mkdir())
change_folders("own: 'd' has only training or only", lambda s: shutil.rmtree(s / "test/d"))
change_folders("own/extra is not used: expected only", lambda s: (s / "extra").mkdir())
change_folders("own/valid is not used: expected only", lambda s: make(s / "val", s / "valid"))
change_folders("own/val has no folders: expected one folder", lambda s: (s / "val").mkdir())
change_folders(
    "own cannot be read (it has only one class): expected from 2",
    lambda s: shutil.rmtree(s / "train"),
)
change_folders(
    "train/a/x.jpg cannot be used: it cannot be read as a picture (not a recognised image format)",
    lambda s: (s / "train/a/x.jpg").touch(),
)
change_folders(
    "train/a/00.png cannot be used: it cannot be read as a picture (image file is truncated",
    lambda s: (s / "train/a/00.png").write_bytes((s / "train/a/00.png").read_bytes()[:60]),
)
change_folders(
    "expected PNG, JPEG, BMP, TIFF, WEBP, GIF; repair or remove it, or set prepare.skip_unreadable",
    lambda s: (s / "train/a/x.jpg").touch(),
)
change_folders(
    "own has pictures of different sizes, from 6 x 5 to 9 x 6 pixels: set prepare.image_size in",
    lambda s: draw(s / "train/b/x.jpg", size=(6, 9)),
)
change_folders(
    "train/a/00.png cannot be used: it has 100000 x 100000 pixels: expected at most 100,000,000",
    lambda s: claim_size(s / "train/a/00.png", 100_000),
)
change_folders(
    "links outside data/raw: expected files inside it", lambda s: link(s / "train/a/x.png")
)
change_folders("train/e links outside data/raw", lambda s: link(s / "train/e"))
change_folders(
    "train/a/x links to a folder: expected files in the",
    lambda s: (s / "train/a/x").symlink_to("../..", target_is_directory=True),
)
change_folders("own/test is a file: expected a folder", lambda s: make_file(s / "test"))
change_folders("own/train is a file: expected a folder", lambda s: make_file(s / "train"))
change_folders(
    "own has folders in folders in folders",
    lambda s: (s / "train/a" / ("d/" * 20)).mkdir(parents=True),
)


def make_fifo(name: str, source: Path) -> None:
    os.mkfifo(source / name)


if hasattr(os, "mkfifo"):
    for name in ("train/a/x.png", "train/fifo", "classes.txt"):
        change_folders(f"own/{name} is neither a file nor", partial(make_fifo, name))
change_folders("holds 'x\\n.png': expected printable", lambda s: (s / "train/a/x\n.png").touch())
if sys.platform == "linux":  # elsewhere no file can have such a name
    change_folders(
        "holds '\\udcff': expected printable names; rename it",
        lambda s: (s / "train/\udcff").mkdir(),
    )


def make_file(path: Path) -> None:
    shutil.rmtree(path)
    path.touch()


def make(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir()


def draw(path: Path, mode: str = "L", size: tuple[int, int] = (5, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)


def claim_size(png: Path, pixels: int) -> None:
    header = b"IHDR" + struct.pack(">II", pixels, pixels) + b"\x08\x00\x00\x00\x00"
    content = png.read_bytes()
    png.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])


def link(path: Path) -> None:
    path.symlink_to("/", target_is_directory=True)


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_one_line_and_leaves_the_outputs(
    raw: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    make, complaint = WRONG[what]
    name = "own.npz" if what.startswith(("npz", "nothing")) else "own"
    make(raw / name)
    prepared = Path("data/prepared/train.npz")
    prepared.parent.mkdir()
    prepared.write_text("as before")
    Path("params.yaml").write_text(PARAMS_TEXT.replace("source: mnist", f"source: {name}"))
    with pytest.raises(SystemExit, match="1"):
        prepare.main()
    printed = capsys.readouterr().err
    assert printed.startswith("error: data/raw/own")
    assert complaint in printed
    assert printed.count("\n") == 1
    assert list(prepared.parent.iterdir()) == [prepared]
    assert prepared.read_text() == "as before"


@pytest.mark.parametrize("name", ["own.npz", "own"])
def test_a_source_without_permission_is_one_line(
    raw: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Simulated, because tests may run as root, who can read anything."""
    write_npz(raw / "own.npz")
    write_folders(raw / "own")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("zipfile.ZipFile", refuse)
    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(InputError, match=rf"^data/raw/{name} cannot be read \(Permission denied\)"):
        load(name)


def test_a_bomb_takes_no_memory(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files that decompress to huge arrays, or claim to contain them."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**20))
    monkeypatch.setattr("mnist_cnn.data.raw.MAX_LABEL_BYTES", 2**20)
    write_idx(raw / "idx")
    bomb = gzip.compress(idx(IMAGES) + bytes(2**26))
    (raw / "idx/train-images-idx3-ubyte.gz").write_bytes(bomb)
    np.savez_compressed(raw / "honest.npz", x_train=np.zeros(2**26, np.uint8), y_train=LABELS)
    np.savez_compressed(raw / "labels.npz", x_train=IMAGES, y_train=np.zeros(2**26, np.uint8))
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**3, 10**3)}
    with zipfile.ZipFile(raw / "lying.npz", "w") as archive:
        for key in ("x_train", "y_train"):
            with archive.open(f"{key}.npy", "w") as file:
                np.lib.format.write_array_header_1_0(file, header)
    tracemalloc.start()
    for name, complaint in (
        ("idx", "but it has more"),
        ("honest.npz", "needs 603,979,776 bytes of disk space, but only 1,048,576 are free"),
        ("labels.npz", "has 67,108,992 bytes of labels: expected at most 1,048,576"),
        ("lying.npz", "x_train are truncated"),
    ):
        with pytest.raises(InputError, match=complaint):
            load(name)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_prepare_splits_off_a_test_set_and_says_what_it_found(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = IMAGES.copy()
    images[4] = images[0]  # of the same class
    images[9] = images[0]  # of another
    images[2] = 7
    write_npz(raw / "own.npz", x_train=images, x_test=None, y_test=None)
    text = PARAMS_TEXT.replace("source: mnist", "source: own.npz")
    Path("params.yaml").write_text(text)
    prepare.main()
    assert capsys.readouterr().err == (
        "warning: these classes have too few test images to judge: 0 (3), 1 (3), 2 (3), 3 (3); "
        "expected 20\n"
    )
    header, *rows = Path("metrics/data.csv").read_text().splitlines()
    assert header.split(",")[:5] == ["label", "class", "train", "validation", "test"]
    assert [row.rsplit(",", 4)[0] for row in rows] == [f"{i},{i},4,3,3" for i in range(4)]
    first = np.asarray(read_arrays(Path("data/prepared/test.npz")).images)
    assert first.shape == (12, 6, 5, 1)
    Path("params.yaml").write_text(text.replace("seed: 42", "seed: 43", 1))
    prepare.main()
    other = read_arrays(Path("data/prepared/test.npz"))
    assert not np.array_equal(other.images, first)


def test_prepare_needs_no_tensorflow() -> None:
    code = "import sys, stages.prepare; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert not {b"tensorflow", b"keras", b"cv2"} & set(done.stdout.split())
