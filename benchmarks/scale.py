"""`python -m benchmarks.scale`: measure the stages' time and memory with up to 40 times the images.

The datasets hold MNIST's 70,000 images once, 3, 10 and 40 times. The recipe `fast` trains on each
for one epoch; every copy of an image is augmented differently. Prints the wall time and peak memory
of each stage, and the cost of each additional image. Needs Linux or macOS and 15 GB of disk space,
and takes about six minutes on 2 CPU cores.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from tqdm import tqdm

from benchmarks.compare import STAGES, copied_project, run_stage
from benchmarks.contestants import compose
from mnist_cnn.data.mnist import load_mnist

COPIES = (1, 3, 10, 40)
IMAGES = 70_000


def main() -> None:
    params = compose("fast").model_dump(mode="json")
    params["prepare"]["source"] = "copies"
    params["train"]["steps_per_epoch"] = None  # one pass
    rows = []
    for copies in tqdm(COPIES, unit="size", disable=None):
        with copied_project() as project:
            write_copies(project / "data/raw/copies", copies)
            (project / "params.yaml").write_text(yaml.safe_dump(params))
            measured = {stage: run_stage(stage, project) for stage in STAGES}
        seconds = {f"{stage} s": took for stage, (took, _) in measured.items()}
        memory = {f"{stage} MB": peak for stage, (_, peak) in measured.items()}
        rows.append({"images": copies * IMAGES} | seconds | memory)
    table = pd.DataFrame(rows).set_index("images")
    print(table.to_markdown(floatfmt=".1f"))
    further = table.filter(regex=" s$").diff().div(np.diff(table.index, prepend=0), axis=0)
    print("\nµs for each further image, from row to row:\n")
    print((1e6 * further.iloc[1:]).to_markdown(floatfmt=".1f"))


def write_copies(folder: Path, copies: int) -> None:
    """Write MNIST, each image `copies` times, as IDX files."""
    folder.mkdir(parents=True)
    mnist = load_mnist()
    for name, array in (
        ("train-images-idx3-ubyte", mnist.train_images),
        ("train-labels-idx1-ubyte", mnist.train_labels),
        ("t10k-images-idx3-ubyte", mnist.test_images),
        ("t10k-labels-idx1-ubyte", mnist.test_labels),
    ):
        values = np.asarray(array, np.uint8)
        header = (0x0800 + values.ndim, copies * len(values), *values.shape[1:])
        with (folder / name).open("wb") as file:
            file.write(np.array(header, ">u4").tobytes())
            for _ in range(copies):
                file.write(values.tobytes())


if __name__ == "__main__":
    main()
