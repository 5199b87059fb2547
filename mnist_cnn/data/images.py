"""Images that don't have to fit in memory: they stay in a file and are read row by row."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mnist_cnn.errors import InputError, describe_exception

CHUNK_BYTES = 2**20


class Images(Protocol):
    """Images [N, ...], in memory or in a file. `images[index]` takes an integer, a slice or an
    array of integers, as in NumPy."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...

    def __array__(self, /) -> npt.NDArray[Any]: ...


@dataclass(frozen=True)
class StoredArray:
    """An array [N, ...] in C order that starts at byte `offset` of the file `path`.

    The file is read, not memory-mapped: mapped pages count as the process's memory, and truncating
    a mapped file would crash the process.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        """Read the rows at an integer, a slice or an array of non-negative integers.

        Raises:
            InputError: the file can't be read, or ends before one of the rows.
        """
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        index = np.asarray(index)
        rows = np.empty((index.size, *self.shape[1:]), self.dtype)
        try:
            with self.path.open("rb", buffering=0) as file:
                for row, number in zip(rows, index.ravel().tolist(), strict=True):
                    file.seek(self.offset + number * row.nbytes)
                    if file.readinto(row) != row.nbytes:
                        raise EOFError("it is truncated")
        except (OSError, EOFError) as error:
            raise InputError(
                f"{self.path} cannot be read ({describe_exception(error)}): "
                "expected it to stay unchanged during the run; start again"
            ) from error
        return rows.reshape(index.shape + self.shape[1:])

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)


def prediction_batch_size(image_shape: tuple[int, ...]) -> int:
    """Return how many images of a shape to predict at once: fewer large ones, to save memory."""
    return max(1, min(1000, 2_000_000 // math.prod(image_shape)))


def iterate_chunks(images: Images, indices: npt.NDArray[np.integer]) -> Iterator[npt.NDArray[Any]]:
    """Yield the images at `indices`, in that order, in chunks of CHUNK_BYTES or one image."""
    image_bytes = math.prod(images.shape[1:]) * images.dtype.itemsize
    count = max(1, CHUNK_BYTES // image_bytes)
    for start in range(0, len(indices), count):
        yield images[indices[start : start + count]]


def normalize(images: Images) -> npt.NDArray[np.float32]:
    """Map images uint8 [N, H, W] or [N, H, W, C] in [0, 255] to float32 [N, H, W, C] in [0, 1]."""
    channels = np.asarray(images).reshape(*images.shape[:3], -1)
    return channels.astype(np.float32) / np.float32(255)
