"""Split a dataset into training, validation and test arrays, and report on them."""

from pathlib import Path

import numpy as np
import pandas as pd

from mnist_cnn.data.arrays import write_arrays
from mnist_cnn.data.images import normalize
from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.data.raw import load_raw, resize_dataset
from mnist_cnn.data.splits import split_dataset
from mnist_cnn.errors import report_errors, warn
from mnist_cnn.files import scratch_folder, write_csv
from mnist_cnn.params import load_params

PREPARED = Path("data/prepared")
REPORT = Path("metrics/data.csv")
ENOUGH = 20  # test images of a class


@report_errors
def main() -> None:
    params = load_params().prepare
    with scratch_folder(PREPARED) as scratch:
        dataset = load_mnist() if params.source == "mnist" else load_raw(params, scratch)
        dataset = resize_dataset(dataset, params, scratch)
        splits, report = split_dataset(dataset, params)
        for name, split in splits.items():
            images = map(normalize, split.chunks())
            labels = split.labels.astype(np.int64)
            write_arrays(PREPARED / f"{name}.npz", images, labels, dataset.classes)
        left_out = pd.DataFrame(dataset.left_out.items(), columns=["file", "reason"])
        write_csv(left_out, PREPARED / "left_out.csv")
        write_csv(report, REPORT)
    print(report.to_string(index=False))
    for reason, files in left_out.groupby("reason")["file"]:
        print(f"left out {len(files)} files: {reason}; see {PREPARED / 'left_out.csv'}")
    few = report[report["test"] < ENOUGH]
    if len(few):
        counts = ", ".join(f"{name} ({count})" for name, count in few[["class", "test"]].to_numpy())
        warn(f"these classes have too few test images to judge: {counts}; expected {ENOUGH}")


if __name__ == "__main__":
    main()
