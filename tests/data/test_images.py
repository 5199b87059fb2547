"""Images stay in their file and are read row by row."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist_cnn.data.arrays import read_arrays, write_arrays
from mnist_cnn.data.images import StoredArray, iterate_chunks, normalize
from mnist_cnn.data.mnist import Dataset
from mnist_cnn.data.splits import split_dataset
from mnist_cnn.errors import InputError
from tests.helpers import PARAMS

VALUES = np.arange(60, dtype=np.float32).reshape(10, 2, 3)


@pytest.fixture
def stored(tmp_path: Path) -> StoredArray:
    path = tmp_path / "values"
    path.write_bytes(b"some header" + VALUES.tobytes())
    return StoredArray(path, len(b"some header"), VALUES.shape, VALUES.dtype)


@pytest.mark.parametrize(
    "numbers",
    [7, slice(None), slice(2, 99), slice(None, None, 3), slice(5, 5), [3, 1, 3], [[0, 1], [9, 2]]],
)
def test_rows_are_read_as_numpy_indexes_them(stored: StoredArray, numbers: Any) -> None:
    if isinstance(numbers, list):
        numbers = np.array(numbers)
    np.testing.assert_array_equal(stored[numbers], VALUES[numbers])


def test_it_is_an_array_where_one_is_asked_for(stored: StoredArray) -> None:
    assert len(stored) == 10
    np.testing.assert_array_equal(stored, VALUES)


def test_a_file_that_was_cut_short_is_named(stored: StoredArray) -> None:
    stored.path.write_bytes(stored.path.read_bytes()[:-1])
    np.testing.assert_array_equal(stored[:9], VALUES[:9])
    with pytest.raises(InputError, match=r"values cannot be read \(it is truncated\)"):
        stored[:]


def test_chunks_hold_a_megabyte_or_one_image() -> None:
    images = np.arange(5 * 2**18, dtype=np.uint16).reshape(5, -1)  # half a megabyte each
    chunks = list(iterate_chunks(images, np.array([4, 0, 1])))
    assert [len(chunk) for chunk in chunks] == [2, 1]
    np.testing.assert_array_equal(np.concatenate(chunks), images[[4, 0, 1]])
    assert [len(chunk) for chunk in iterate_chunks(images.reshape(1, -1), np.array([0]))] == [1]


def test_more_images_take_no_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    peaks = []
    for count in (10_000, 40_000):
        content = np.random.default_rng(0).bytes(count * 28 * 28)
        Path("images").write_bytes(content)
        images = StoredArray(Path("images"), 0, (count, 28, 28), np.dtype(np.uint8))
        labels = np.arange(count) % 10
        dataset = Dataset(images, labels, images, labels)
        del content
        tracemalloc.start()
        splits, _ = split_dataset(dataset, PARAMS.prepare)
        train = splits["train"]
        prepared = map(normalize, train.chunks())
        write_arrays(Path("train.npz"), prepared, train.labels.astype(np.int64))
        arrays = read_arrays(Path("train.npz"))
        write_arrays(
            Path("copy.npz"),
            iterate_chunks(arrays.images, np.arange(len(arrays.labels))),
            arrays.labels,
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 300 * 18_000  # an image has 784 bytes raw, 3,136 bytes prepared
