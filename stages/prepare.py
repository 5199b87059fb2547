"""Source -> checked images -> splits, each stratified -> normalised arrays, and what was found."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mnist_cnn.arrays import DIGITS, Arrays, write_arrays
from mnist_cnn.datasets import Dataset, load_mnist
from mnist_cnn.errors import InputError, reported
from mnist_cnn.files import replacing, write_csv, write_json
from mnist_cnn.params import PARAMS_PATH, PrepareParams, load_params
from mnist_cnn.raw import load_raw

PREPARED = Path("data/prepared")
METRICS = Path("metrics")


@reported
def main() -> None:
    params = load_params().prepare
    dataset = load_mnist() if params.source == "mnist" else load_raw(params.source)
    images, labels, test_images, test_labels, classes = dataset
    if not len(test_labels):
        held_out = hold_out(labels, classes, params, "test_split")
        test_images, test_labels = images[held_out], labels[held_out]
        images, labels = images[~held_out], labels[~held_out]
    found, leaked = examine(Dataset(images, labels, test_images, test_labels, classes))
    if params.remove_leaked:
        images, labels = images[~leaked], labels[~leaked]
    held_out = hold_out(labels, classes, params, "validation_split")
    splits = {
        "train": (images[~held_out], labels[~held_out]),
        "validation": (images[held_out], labels[held_out]),
        "test": (test_images, test_labels),
    }
    counts = pd.DataFrame(
        {"label": range(len(classes)), "class": classes}
        | {name: np.bincount(labels) for name, (_, labels) in splits.items()}
    )
    paths = [PREPARED / f"{name}.npz" for name in splits]
    outputs = replacing(*paths, METRICS / "data.json", METRICS / "classes.csv")
    with outputs as (*partials, numbers, table):
        for (images, labels), partial in zip(splits.values(), partials, strict=True):
            write_arrays(partial, normalize(images, labels, classes))
        write_json(found, numbers)
        write_csv(counts, table)
    print(counts.to_string(index=False))
    print("  ".join(f"{name} {value}" for name, value in found.items()))


def hold_out(
    labels: npt.NDArray[np.integer], classes: npt.NDArray[np.str_], params: PrepareParams, name: str
) -> npt.NDArray[np.bool_]:
    """Draw the share of each class that the parameter `name` says: bool [N], True where drawn.

    Raises:
        InputError: of some class that is none or all.
    """
    share = getattr(params, name)
    drawn = stratified_sample(labels, share, params.seed)
    total = np.bincount(labels, minlength=len(classes))
    chosen = np.bincount(labels[drawn], minlength=len(classes))
    if (poor := np.flatnonzero((chosen == 0) | (chosen == total))).size:
        which = poor[0]
        raise InputError(
            f"{PARAMS_PATH}: prepare.{name} is {share}: of the {total[which]} images of class "
            f"{classes[which]} it holds out {chosen[which]}; expected some, but not all"
        )
    return drawn


def stratified_sample(
    labels: npt.NDArray[np.integer], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Draw `share` of each class at random: bool [N], True where drawn."""
    drawn = pd.Series(labels).groupby(labels).sample(frac=share, random_state=seed)
    mask = np.zeros(len(labels), dtype=np.bool_)
    mask[drawn.index] = True
    return mask


def examine(dataset: Dataset) -> tuple[dict[str, int], npt.NDArray[np.bool_]]:
    """The numbers of `data.json`, and which of the N training images (of which some will be the
    validation images) are in the test set too, pixel by pixel: bool [N].

    `duplicates` are training images that repeat an earlier one; `contradictions` those of them
    whose label differs from each earlier one's; `constant_images`, of both sets, have one value in
    all pixels.
    """
    images, test_images = dataset.train_images, dataset.test_images
    pixels, test_pixels = (
        pd.Series([image.tobytes() for image in part]) for part in (images, test_images)
    )
    leaked = pixels.isin(test_pixels).to_numpy()
    labelled = pd.DataFrame({"image": pixels, "label": dataset.train_labels})
    constant = [
        np.count_nonzero(np.ptp(part.reshape(len(part), -1), axis=1) == 0)
        for part in (images, test_images)
    ]
    found = {
        "classes": len(dataset.classes),
        "height": images.shape[1],
        "width": images.shape[2],
        "channels": math.prod(images.shape[3:]),
        "duplicates": pixels.duplicated().sum(),
        "contradictions": pixels.duplicated().sum() - labelled.duplicated().sum(),
        "leaked_images": leaked.sum(),
        "constant_images": sum(constant),
    }
    return {name: int(value) for name, value in found.items()}, leaked


def normalize(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    classes: npt.NDArray[np.str_] = DIGITS,
) -> Arrays:
    """Images uint8 [N, H, W] or [N, H, W, C] in [0, 255] to float32 [N, H, W, C] in [0, 1]; labels
    to int64."""
    channels = images.reshape(*images.shape[:3], -1)
    return Arrays(channels.astype(np.float32) / np.float32(255), labels.astype(np.int64), classes)


if __name__ == "__main__":
    main()
