"""Export the trained network to other formats, and compare each with the network."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from mnist_cnn.data.arrays import read_arrays
from mnist_cnn.data.images import Images
from mnist_cnn.errors import report_errors, suppress_stderr, warn
from mnist_cnn.evaluation.scores import compare_predictions
from mnist_cnn.files import sha256, write_atomically, write_csv
from mnist_cnn.model.formats import CHECKSUMS, FORMATS, Model, check_conversion
from mnist_cnn.model.formats.base import zipped_metadata
from mnist_cnn.model.formats.keras import load_network

SAMPLES = 500  # training images that calibrate the 8-bit model
COMPARED = 6000  # validation images
MAX_BYTES = 10**8  # of either
# Runtimes round differently. 8-bit models are approximate: how they differ is recorded.
TOLERANCES = {"onnx": 1e-3, "litert": 1e-3, "litert_int8": math.inf, "saved_model": 1e-3}


@report_errors
def main() -> None:
    train = read_arrays(Path("data/prepared/train.npz"))
    validation = read_arrays(Path("data/prepared/validation.npz"))
    network = load_network(FORMATS["keras"].path)
    metadata = zipped_metadata(FORMATS["keras"].path)

    from mnist_cnn.model.network import predict_proba

    samples = np.asarray(train.images[evenly_spaced(train.images, SAMPLES)])
    compared = evenly_spaced(validation.images, COMPARED)
    images, labels = np.asarray(validation.images[compared]), validation.labels[compared]
    expected = predict_proba(network, images)
    rows = []
    for name, tolerance in TOLERANCES.items():
        path, write, read = FORMATS[name]
        with write_atomically(path) as partial:
            with suppress_stderr():
                write(network, partial, samples, metadata)
                probabilities = Model(*read(partial))(images)
            check_conversion(name, expected, probabilities, tolerance)
        comparison = compare_predictions(labels, expected, probabilities)
        rows.append({"format": name, **comparison, "size": file_size(path)})
    exports = pd.DataFrame(rows)
    write_csv(exports, Path("metrics/exports.csv"))
    paths = [FORMATS[name].path for name in TOLERANCES]
    checksums = [f"{sha256(path)}  {path.name}\n" for path in paths if path.is_file()]
    with write_atomically(FORMATS["keras"].path.with_name(CHECKSUMS)) as partial:
        partial.write_text("".join(checksums), encoding="utf-8", newline="\n")
    for export in exports.query("p_value < 0.05").itertuples():
        warn(
            f"{FORMATS[str(export.format)].path} gets {export.lost} validation images wrong "
            f"that {FORMATS['keras'].path} gets right, and only {export.won} the other way round: "
            "prefer another format"
        )


def evenly_spaced(images: Images, count: int) -> slice:
    """Return where to find at most `count` images and MAX_BYTES, evenly spaced because a dataset
    may be sorted by class."""
    image_bytes = math.prod(images.shape[1:]) * images.dtype.itemsize
    count = max(1, min(count, MAX_BYTES // image_bytes))
    return slice(None, None, math.ceil(len(images) / count))


def file_size(path: Path) -> int:
    """Return the number of bytes in a file, or in all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    main()
