"""The interface of a model format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Network = Any  # keras.Sequential: importing Keras takes seconds
ImageBatch = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float32]
BatchModel = Callable[[ImageBatch], Probabilities]


class Format(NamedTuple):
    """A file format for the network.

    - `path`: where the pipeline keeps the model
    - `write(network, path, samples)`: write the network, with reproducible bytes; formats that
      quantise calibrate each layer's range on `samples`, images float32 [M, H, W, C] in [0, 1]
    - `read(path)`: return the shape of an image, (H, W, C), and the model, a function from images
      float32 [N, H, W, C] in [0, 1] to probabilities float32 [N, classes]
    """

    path: Path
    write: Callable[[Network, Path, ImageBatch], None]
    read: Callable[[Path], tuple[tuple[int, ...], BatchModel]]
