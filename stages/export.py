"""Export the trained network to other formats, and compare each with the network."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_cnn.data.arrays import read_arrays
from mnist_cnn.data.images import Images
from mnist_cnn.errors import report_errors, suppress_stderr
from mnist_cnn.files import sha256, write_atomically
from mnist_cnn.model.formats import CHECKSUMS, FORMATS, check_conversion
from mnist_cnn.model.formats.base import zipped_metadata
from mnist_cnn.model.formats.keras import load_network

SAMPLES = 500  # training images that calibrate the 8-bit model
COMPARED = 6000  # validation images
MAX_BYTES = 10**8  # of either
# Runtimes round differently. 8-bit models are approximate, so they are left to `evaluate`.
TOLERANCES = {"onnx": 1e-3, "litert": 1e-3, "litert_int8": math.inf, "saved_model": 1e-3}


@report_errors
def main() -> None:
    train = read_arrays(Path("data/prepared/train.npz"))
    validation = read_arrays(Path("data/prepared/validation.npz"))
    network = load_network(FORMATS["keras"].path)
    metadata = zipped_metadata(FORMATS["keras"].path)

    from mnist_cnn.model.network import predict_proba

    samples = evenly_spaced(train.images, SAMPLES)
    images = evenly_spaced(validation.images, COMPARED)
    expected = predict_proba(network, images)
    for name, tolerance in TOLERANCES.items():
        path, write, _ = FORMATS[name]
        with write_atomically(path) as partial:
            with suppress_stderr():
                write(network, partial, samples, metadata)
            check_conversion(name, partial, images, expected, tolerance)
    paths = [FORMATS[name].path for name in TOLERANCES]
    checksums = [f"{sha256(path)}  {path.name}\n" for path in paths if path.is_file()]
    with write_atomically(FORMATS["keras"].path.with_name(CHECKSUMS)) as partial:
        partial.write_text("".join(checksums), encoding="utf-8", newline="\n")


def evenly_spaced(images: Images, count: int) -> npt.NDArray[Any]:
    """Return at most `count` images and MAX_BYTES, evenly spaced because a dataset may be sorted by
    class."""
    image_bytes = math.prod(images.shape[1:]) * images.dtype.itemsize
    count = max(1, min(count, MAX_BYTES // image_bytes))
    return np.asarray(images[:: math.ceil(len(images) / count)])


if __name__ == "__main__":
    main()
