"""Train the network that reads pictures, and write it as ONNX into the package."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mnist_cnn.data.arrays import DIGITS, Arrays
from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.errors import report_errors, suppress_stderr
from mnist_cnn.files import write_atomically
from mnist_cnn.params import ModelParams, Section, Seed, TrainParams, read_params
from mnist_cnn.reading.reader import READER, READER_INTERFACE
from reader.examples import Digits, make_examples

PARAMS = Path("reader/params.yaml")
CLASSES = np.array([*DIGITS, *(f"{number:02}" for number in range(100)), "other"])
TRAINED, VALIDATED = slice(54_000), slice(54_000, 55_000)  # benchmarks/pages.py uses the others


class ExampleParams(Section):
    seed: Seed
    counts: dict[str, Annotated[int, Field(ge=1)]]


class ReaderParams(Section):
    examples: ExampleParams
    model: ModelParams
    train: TrainParams


@dataclass(frozen=True)
class ScaledImages:
    """Images uint8 in [0, 255] as float32 in [0, 1], a quarter of whose bytes are in memory."""

    pixels: npt.NDArray[np.uint8]
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> npt.NDArray[np.float32]:
        return np.asarray(self.pixels[index] / np.float32(255))

    def __array__(self) -> npt.NDArray[np.float32]:
        return self[:]


@report_errors
def main() -> None:
    params = read_params(PARAMS, ReaderParams)
    mnist = load_mnist()
    images, labels = np.asarray(mnist.train_images), mnist.train_labels
    counts, seed = params.examples.counts, params.examples.seed
    train = _examples(counts, (images[TRAINED], labels[TRAINED]), seed)
    few = {kind: max(count // 20, 1) for kind, count in counts.items()}
    validation = _examples(few, (images[VALIDATED], labels[VALIDATED]), seed + 1)

    from mnist_cnn.model.backend import set_seed
    from mnist_cnn.model.formats import onnx
    from mnist_cnn.model.network import build_network
    from mnist_cnn.training.calibration import calibrate
    from mnist_cnn.training.fit import fit

    set_seed(params.train.seed)
    network = build_network(params.model, *READER_INTERFACE)
    for epoch in fit(network, train, validation, params.train):
        print("  ".join(f"{name} {value:.4g}" for name, value in epoch.items()), flush=True)
    print(f"temperature {calibrate(network, validation):.3f}")
    with write_atomically(READER) as partial, suppress_stderr():
        onnx.write(network, partial)


def _examples(counts: dict[str, int], digits: Digits, seed: int) -> Arrays:
    pixels, numbers = make_examples(counts, digits, seed)
    return Arrays(ScaledImages(pixels), numbers, CLASSES)


if __name__ == "__main__":
    main()
