"""The user's own datasets: three layouts, and one line for any error in them."""

import gzip
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mnist_cnn.data.arrays import read_arrays
from mnist_cnn.data.mnist import Dataset
from mnist_cnn.data.raw import RAW, load_raw
from mnist_cnn.errors import InputError
from stages import prepare
from tests.helpers import PARAMS_TEXT, ROOT

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 5), dtype=np.uint8)
LABELS = np.arange(40) % 4


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`data/raw` of an empty project in the current folder."""
    monkeypatch.chdir(tmp_path)
    RAW.mkdir(parents=True)
    return RAW


def load(name: str) -> Dataset:
    Path("scratch").mkdir(exist_ok=True)
    return load_raw(name, Path("scratch"))


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
    assert (dataset.test_images.shape, len(dataset.test_labels)) == ((0, 6, 5, 3), 0)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files(raw: Path, suffix: str) -> None:
    write_idx(raw / "own", suffix)
    dataset = load("own")
    np.testing.assert_array_equal(dataset.train_images, IMAGES)
    np.testing.assert_array_equal(dataset.train_labels, LABELS)
    np.testing.assert_array_equal(dataset.test_images, IMAGES[:8])
    assert dataset.classes.tolist() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("images", [IMAGES, np.stack([IMAGES] * 3, axis=-1)])
def test_folders_of_png_pictures(raw: Path, images: npt.NDArray[np.uint8]) -> None:
    write_folders(raw / "own", images)
    (raw / "own/README.txt").touch()
    (raw / "own/train/a/.DS_Store").touch()
    dataset = load("own")
    order = np.argsort(LABELS, kind="stable")
    np.testing.assert_array_equal(dataset.train_images, images[order])
    np.testing.assert_array_equal(dataset.train_labels, LABELS[order])
    assert len(dataset.test_labels) == 8
    assert dataset.classes.tolist() == ["a", "b", "c", "d"]


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
WRONG["no layout"] = (lambda s: (s / "a").mkdir(parents=True), "own is not a dataset: expected an")
WRONG["a file"] = (lambda s: s.with_name("own").touch(), "own is not a dataset: expected an .npz")
change_npz("it holds x_train): expected an .npz with x_train and y_train", y_train=None,
           x_test=None, y_test=None)  # fmt: skip
change_npz("it holds x_test, x_train, y_train)", y_test=None)
change_npz("it holds x_test, x_train, x_validation, y_test, y_train)", x_validation=IMAGES)
change_npz("x_train are float64)", x_train=IMAGES / 255)
change_npz("x_train are Python objects)", x_train=np.array([{}]))
change_npz("y_train are float64 [40])", y_train=LABELS / 1)
change_npz("y_train are int64 [40, 4])", y_train=np.eye(4, dtype=np.int64)[LABELS])
change_npz("has images of shape [40, 6]: expected [N, H, W]", x_train=IMAGES[..., 0])
change_npz("has images of shape [40, 6, 5, 2]", x_train=np.stack([IMAGES] * 2, -1))
change_npz("has images of shape [0, 6, 5]", x_train=IMAGES[:0], y_train=LABELS[:0])
change_npz("has 40 images but 39 labels: expected one each", y_train=LABELS[:39])
change_npz("training images of shape (6, 5) but test images of shape (5, 5)", x_test=IMAGES[:8, 1:])
change_npz("own.npz: 3 has only training or only test images", y_test=LABELS[:8] % 3)
change_npz("(only one of y_train and y_test is text)", y_test=LABELS[:8].astype(str))
change_npz("has only the class 0: expected two or more", y_train=LABELS * 0, y_test=LABELS[:8] * 0)
change_npz("has a class named 'a\\nb': expected printable text",
           y_train=np.array(["a\nb", "c"])[LABELS % 2], x_test=None, y_test=None)  # fmt: skip
change_npz("has a class named ' '", y_train=np.array([" ", "c"])[LABELS % 2], x_test=None,
           y_test=None)  # fmt: skip
change_npz("has a class named '</script>': expected printable text without </",
           y_train=np.array(["</script>", "c"])[LABELS % 2], x_test=None, y_test=None)  # fmt: skip
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
change_folders("train/e is empty: expected the class's PNG", lambda s: (s / "train/e").mkdir())
change_folders("own: d has only training or only", lambda s: shutil.rmtree(s / "test/d"))
change_folders("own/valid is not used: expected only", lambda s: (s / "valid").mkdir())
change_folders("train/x is not a folder: expected one", lambda s: (s / "train/x").touch())
change_folders("own/train is not a folder: expected one", lambda s: replace_by_file(s / "train"))
change_folders("own/test is not a folder: expected one", lambda s: replace_by_file(s / "test"))
change_folders("train/a/x.jpg is not a PNG file", lambda s: (s / "train/a/x.jpg").touch())
change_folders("train/a/x.png is not a PNG file", lambda s: (s / "train/a/x.png").mkdir())
change_folders("train/a/x.png cannot be read (cann", lambda s: (s / "train/a/x.png").touch())


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.touch()


def claim_size(png: Path, pixels: int) -> None:
    header = b"IHDR" + struct.pack(">II", pixels, pixels) + b"\x08\x00\x00\x00\x00"
    content = png.read_bytes()
    png.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])


change_folders(
    "train/a/00.png cannot be read (image file is truncated",
    lambda s: (s / "train/a/00.png").write_bytes((s / "train/a/00.png").read_bytes()[:60]),
)
change_folders(
    "train/b/x.png has 6 x 5 pixels, grey: expected 5 x 6 pixels, grey, as in",
    lambda s: Image.new("L", (6, 5)).save(s / "train/b/x.png"),
)
change_folders(
    "train/b/x.png has 5 x 6 pixels, RGB: expected 5 x 6 pixels, grey, as in",
    lambda s: Image.new("RGB", (5, 6)).save(s / "train/b/x.png"),
)
change_folders(
    "train/b/x.png cannot be read (its mode is RGBA): expected a PNG picture, 8-bit grey or RGB",
    lambda s: Image.new("RGBA", (5, 6)).save(s / "train/b/x.png"),
)
change_folders(
    "own/train needs 3,600,000,000,000 bytes of disk space, but only",
    lambda s: claim_size(s / "train/a/00.png", 100_000),
)
change_folders(
    "links outside data/raw: expected files inside it", lambda s: link(s / "train/a/x.png")
)
change_folders("train/e links outside data/raw", lambda s: link(s / "train/e"))
change_folders("holds 'x\\n.png': expected printable", lambda s: (s / "train/a/x\n.png").touch())
if sys.platform == "linux":  # elsewhere no file can have such a name
    change_folders(
        "holds '\\udcff': expected printable names; rename it",
        lambda s: (s / "train/\udcff").mkdir(),
    )


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
    monkeypatch.setattr(Path, "iterdir", refuse)
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


def test_prepare_splits_off_a_test_set_and_says_what_it_found(raw: Path) -> None:
    images = IMAGES.copy()
    images[4] = images[0]  # of the same class
    images[9] = images[0]  # of another
    images[2] = 7
    write_npz(raw / "own.npz", x_train=images, x_test=None, y_test=None)
    text = PARAMS_TEXT.replace("source: mnist", "source: own.npz")
    Path("params.yaml").write_text(text)
    prepare.main()
    header, *rows = Path("metrics/data.csv").read_text().splitlines()
    assert header.split(",")[:5] == ["label", "class", "train", "validation", "test"]
    assert [row.rsplit(",", 4)[0] for row in rows] == [f"{i},{i},7,1,2" for i in range(4)]
    first = np.asarray(read_arrays(Path("data/prepared/test.npz")).images)
    assert first.shape == (8, 6, 5, 1)
    Path("params.yaml").write_text(text.replace("seed: 42", "seed: 43", 1))
    prepare.main()
    other = read_arrays(Path("data/prepared/test.npz"))
    assert not np.array_equal(other.images, first)


def test_prepare_needs_no_tensorflow() -> None:
    code = "import sys, stages.prepare; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert not {b"tensorflow", b"keras", b"cv2"} & set(done.stdout.split())
