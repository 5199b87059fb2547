import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mnist_cnn.data.arrays import DIGITS, Arrays, read_arrays, write_arrays
from mnist_cnn.errors import InputError


def test_arrays_come_back_as_written(tmp_path: Path, arrays: Arrays) -> None:
    write_arrays(tmp_path / "a.npz", [arrays.images], arrays.labels)
    back = read_arrays(tmp_path / "a.npz")
    np.testing.assert_array_equal(back.images, arrays.images)
    np.testing.assert_array_equal(back.labels, arrays.labels)
    np.testing.assert_array_equal(back.classes, arrays.classes)
    assert back.images.dtype == np.float32
    assert back.labels.dtype == np.int64


def test_plain_numpy_reads_them(tmp_path: Path, arrays: Arrays) -> None:
    write_arrays(tmp_path / "a.npz", [arrays.images], arrays.labels)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert archive.files == ["images", "labels", "classes"]
        np.testing.assert_array_equal(archive["images"], arrays.images)


def test_bytes_follow_from_the_arrays_alone(tmp_path: Path) -> None:
    images = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2, 1)
    write_arrays(tmp_path / "a.npz", [images], np.array([3, 7]))
    digest = hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()
    assert digest == "4193012e79b5b6bd4a03f29d962c778bd35448e2bb7375291d30755929b1edd7"


@pytest.mark.parametrize(
    ("images", "labels", "problem"),
    [
        (np.full((1, 2, 2, 1), np.nan, np.float32), [0], r"images lie in \[nan, nan\]"),
        (np.full((1, 2, 2, 1), 1.5, np.float32), [0], r"images lie in \[1.5, 1.5\]"),
        (np.full((1, 2, 2, 1), -0.5, np.float32), [0], r"images lie in \[-0.5, -0.5\]"),
        (np.zeros((1, 2, 2, 1), np.float32), [10], r"labels lie in \[10, 10\] for 10 classes"),
        (np.zeros((1, 2, 2, 1), np.float32), [-1], r"labels lie in \[-1, -1\]"),
        (np.zeros((2, 2, 2, 1), np.float32), [0], "2 images but 1 labels"),
        (np.zeros((0, 2, 2, 1), np.float32), [], "images are empty"),
        (np.zeros((1, 2, 2), np.float32), [0], r"images are float32 \[1, 2, 2\]"),
        (np.zeros((1, 2, 2, 1), np.float64), [0], "images are float64"),
        (np.array([[[[{}]]]], dtype=object), [0], "images"),
    ],
)
def test_what_breaks_the_contract_is_named(
    tmp_path: Path, images: np.ndarray, labels: list[int], problem: str
) -> None:
    numbers = np.array(labels, dtype=np.int64)
    np.savez(tmp_path / "a.npz", images=images, labels=numbers, classes=DIGITS)
    with pytest.raises(InputError, match=rf"a.npz is not usable \({problem}.*`dvc repro --force"):
        read_arrays(tmp_path / "a.npz")


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    match how:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "one bit":
            middle = len(content) // 2
            path.write_bytes(
                content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            )
        case "pickled":
            path.write_bytes(pickle.dumps({"images": 1}))
        case "compressed":
            np.savez_compressed(path, images=np.zeros((1, 2, 2, 1), np.float32), labels=[0])
        case "without labels":
            np.savez(path, images=np.zeros((1, 2, 2, 1), np.float32))
        case "encrypted":
            path.write_bytes(
                content.replace(
                    b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"
                )
            )
        case "promising more than it holds":
            with zipfile.ZipFile(path, "w") as archive, archive.open("images.npy", "w") as file:
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 99, 99, 1)}
                )


@pytest.mark.parametrize(
    "how",
    [
        "missing",
        "empty",
        "truncated",
        "one bit",
        "pickled",
        "compressed",
        "without labels",
        "encrypted",
        "promising more than it holds",
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, arrays: Arrays, how: str) -> None:
    write_arrays(tmp_path / "a.npz", [arrays.images], arrays.labels)
    damage(tmp_path / "a.npz", how)
    with pytest.raises(InputError, match=r"^.*a.npz is not usable \(.+\): expected .*$"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        (np.array(["a", "b", "a"]), "two classes are named 'a'"),
        (np.array(["a", ""]), "a class is named ''"),
        (np.array(["a", "\x1b[31m"]), r"a class is named '\\x1b\[31m'"),
        (np.array(["a", "\ud800"]), r"a class is named '\\ud800'"),
        (np.array([65, 0x110000], np.uint32).view("<U1"), "classes have characters that do not"),
        (np.array(["a"]), "it has only one class"),
    ],
)
def test_unusable_class_names_are_refused(
    tmp_path: Path, arrays: Arrays, classes: np.ndarray, problem: str
) -> None:
    write_arrays(tmp_path / "a.npz", [arrays.images[:1]], np.zeros(1, np.int64), classes)
    with pytest.raises(InputError, match=rf"a.npz is not usable \({problem}"):
        read_arrays(tmp_path / "a.npz")


def test_a_header_of_brackets_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00\x28\x23" + b"[" * 9000)
    with pytest.raises(InputError, match=r"a.npz is not usable \(images have a damaged header\)"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    (tmp_path / "b.npz").symlink_to("/dev/zero")
    for name in "ab":
        with pytest.raises(InputError, match=rf"{name}.npz is not usable \(it is not a regular"):
            read_arrays(tmp_path / f"{name}.npz")
