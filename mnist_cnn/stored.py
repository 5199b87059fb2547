"""Arrays that may be larger than the memory: they stay in a file and are read row by row."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

CHUNK_BYTES = 2**20  # of images that are looked at together


class Images(Protocol):
    """Images [N, ...], in memory or in a file. `images[numbers]` are those of an integer, a slice
    or an array of integers, as in NumPy."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, numbers: Any, /) -> Any: ...

    def __array__(self, /) -> npt.NDArray[Any]: ...


@dataclass(frozen=True)
class StoredArray:
    """An array [N, ...] in C order that begins at byte `offset` of the file `path`.

    It is read, not mapped into memory: mapped pages count as the process's own, and a file that is
    cut short meanwhile would kill it.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, numbers: Any) -> npt.NDArray[Any]:
        """The rows of an integer, a slice or an array of integers, none of these negative.

        Raises:
            EOFError: the file ends before one of them.
        """
        if isinstance(numbers, slice):
            numbers = np.arange(*numbers.indices(len(self)))
        numbers = np.asarray(numbers)
        rows = np.empty((numbers.size, *self.shape[1:]), self.dtype)
        with self.path.open("rb", buffering=0) as file:
            for row, number in zip(rows, numbers.ravel().tolist(), strict=True):
                file.seek(self.offset + number * row.nbytes)
                if file.readinto(row) != row.nbytes:
                    raise EOFError(f"{self.path} is cut short")
        return rows.reshape(numbers.shape + self.shape[1:])

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)


def in_chunks(images: Images, numbers: npt.NDArray[np.integer]) -> Iterator[npt.NDArray[Any]]:
    """The images of `numbers`, in that order, as many at a time as CHUNK_BYTES hold."""
    size = math.prod(images.shape[1:]) * images.dtype.itemsize
    count = max(1, CHUNK_BYTES // size)
    for start in range(0, len(numbers), count):
        yield images[numbers[start : start + count]]
