"""Source -> verified images -> stratified split -> normalised arrays."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mnist_cnn.arrays import Arrays, write_arrays
from mnist_cnn.datasets import load_mnist
from mnist_cnn.errors import InputError, reported
from mnist_cnn.files import replacing
from mnist_cnn.params import PARAMS_PATH, load_params

PREPARED = Path("data/prepared")


@reported
def main() -> None:
    params = load_params().prepare
    dataset = load_mnist()
    held_out = stratified_sample(dataset.train_labels, params.validation_split, params.seed)
    if held_out.all() or not held_out.any():
        raise InputError(
            f"{PARAMS_PATH}: prepare.validation_split is {params.validation_split}: of "
            f"{len(held_out)} images it holds out {held_out.sum()}; expected some, but not all"
        )
    splits = {
        "train": (dataset.train_images[~held_out], dataset.train_labels[~held_out]),
        "validation": (dataset.train_images[held_out], dataset.train_labels[held_out]),
        "test": (dataset.test_images, dataset.test_labels),
    }
    with replacing(*(PREPARED / f"{name}.npz" for name in splits)) as partials:
        for (name, (images, labels)), partial in zip(splits.items(), partials, strict=True):
            write_arrays(partial, normalize(images, labels))
            print(f"{name}: {len(labels)} images")


def stratified_sample(
    labels: npt.NDArray[np.uint8], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Draw `share` of each class at random: bool [N], True where drawn."""
    drawn = pd.Series(labels).groupby(labels).sample(frac=share, random_state=seed)
    mask = np.zeros(len(labels), dtype=np.bool_)
    mask[drawn.index] = True
    return mask


def normalize(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> Arrays:
    """Images uint8 [N, H, W] in [0, 255] to float32 [N, H, W, 1] in [0, 1]; labels to int64."""
    return Arrays(
        images[..., np.newaxis].astype(np.float32) / np.float32(255), labels.astype(np.int64)
    )


if __name__ == "__main__":
    main()
