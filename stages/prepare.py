"""Split a dataset into training, validation and test arrays, and report on them."""

from pathlib import Path

import numpy as np

from mnist_cnn.data.arrays import write_arrays
from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.data.raw import load_raw
from mnist_cnn.data.splits import normalize, split_dataset
from mnist_cnn.errors import report_errors
from mnist_cnn.files import scratch_folder, write_csv
from mnist_cnn.params import load_params

PREPARED = Path("data/prepared")
REPORT = Path("metrics/data.csv")


@report_errors
def main() -> None:
    params = load_params().prepare
    with scratch_folder(PREPARED / "raw.partial") as scratch:
        dataset = load_mnist() if params.source == "mnist" else load_raw(params.source, scratch)
        splits, report = split_dataset(dataset, params)
        for name, split in splits.items():
            images = map(normalize, split.chunks())
            labels = split.labels.astype(np.int64)
            write_arrays(PREPARED / f"{name}.npz", images, labels, dataset.classes)
        write_csv(report, REPORT)
    print(report.to_string(index=False))


if __name__ == "__main__":
    main()
