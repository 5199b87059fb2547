"""The trained network -> the formats that other programs read, each checked against it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_cnn.arrays import read_arrays
from mnist_cnn.errors import InputError, reported, silenced
from mnist_cnn.files import digest, replacing
from mnist_cnn.runtimes import CHECKSUMS, load_model
from mnist_cnn.stored import Images

MODELS = Path("models")
SAMPLES = 500  # images that show LiteRT the range of each layer's numbers
CHECKED = 6000  # validation images on which the formats are compared
# Of the accuracy on the validation images, by 8-bit integers; a wrong conversion loses far more.
TOLERATED_DROP = 0.01


@reported
def main() -> None:
    train = read_arrays(Path("data/prepared/train.npz"))
    validation = read_arrays(Path("data/prepared/validation.npz"))

    # TensorFlow takes seconds to import: what can be refused is refused before.
    from mnist_cnn.network import load_network, make_deterministic, predict

    make_deterministic()
    from mnist_cnn.exports import write_litert, write_onnx, write_saved_model

    network = load_network(MODELS / "model.keras")
    names = ("model.onnx", "model.tflite", "model_int8.tflite", "saved_model", CHECKSUMS)
    outputs = replacing(*(MODELS / name for name in names))
    with outputs as (onnx, litert, int8, saved_model, sums):
        with silenced():
            write_onnx(network, onnx)
            write_litert(network, litert)
            write_litert(network, int8, spread(train.images, SAMPLES))
            saved_model.unlink()
            write_saved_model(network, saved_model)

        images, labels = spread(validation.images, CHECKED), spread(validation.labels, CHECKED)
        shapes = images.shape[1:], len(validation.classes)
        expected = predict(network, images, batch_size=1000).argmax(axis=1)
        for path in (onnx, litert, saved_model):
            answers = load_model(path, *shapes)(images).argmax(axis=1)
            if differing := np.count_nonzero(answers != expected):
                raise InputError(
                    f"{path} and {MODELS / 'model.keras'} read {differing} of the "
                    "validation images differently: expected none"
                )
        rounded = load_model(int8, *shapes)(images).argmax(axis=1)
        drop = (expected == labels).mean() - (rounded == labels).mean()
        if drop > TOLERATED_DROP:
            raise InputError(
                f"{int8} reads {drop:.2%} fewer of the validation images than "
                f"{MODELS / 'model.keras'}: expected at most {TOLERATED_DROP:.2%}"
            )
        digests = zip((onnx, litert, int8), names, strict=False)
        text = "".join(f"{digest(path)}  {name}\n" for path, name in digests)
        sums.write_text(text, encoding="utf-8", newline="\n")


def spread(values: Images, count: int) -> npt.NDArray[Any]:
    """At most `count` of `values`, evenly spread: datasets may be sorted by class."""
    return np.asarray(values[:: math.ceil(len(values) / count)])


if __name__ == "__main__":
    main()
