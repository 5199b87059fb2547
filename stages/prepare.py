"""Source -> checked images -> splits, each stratified -> normalised arrays, and what was found.

However many images there are, a megabyte of them at a time is in memory.
"""

import math
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from mnist_cnn.arrays import write_arrays
from mnist_cnn.datasets import Dataset, load_mnist
from mnist_cnn.errors import InputError, reported
from mnist_cnn.files import replacing, scratch_folder, write_csv, write_json
from mnist_cnn.params import PARAMS_PATH, PrepareParams, load_params
from mnist_cnn.raw import load_raw
from mnist_cnn.stored import Images, in_chunks

PREPARED = Path("data/prepared")
METRICS = Path("metrics")


class Split(NamedTuple):
    """Some of a source's images: the `numbers` of these among its `images`, uint8 [N, H, W] or
    [N, H, W, C] in [0, 255], and their `labels`, integers in [0, K)."""

    images: Images
    numbers: npt.NDArray[np.integer]
    labels: npt.NDArray[np.integer]

    def of(self, chosen: npt.NDArray[np.bool_]) -> "Split":
        return Split(self.images, self.numbers[chosen], self.labels[chosen])

    def chunks(self) -> Iterator[npt.NDArray[np.uint8]]:
        """The images, a megabyte at a time; a progress bar shows on a terminal."""
        count = len(self.numbers)
        with tqdm(total=count, unit="image", delay=1, leave=False, disable=None) as bar:
            for chunk in in_chunks(self.images, self.numbers):
                yield chunk
                bar.update(len(chunk))


@reported
def main() -> None:
    params = load_params().prepare
    with scratch_folder(PREPARED / "raw.partial") as scratch:
        mnist = params.source == "mnist"
        prepare(load_mnist() if mnist else load_raw(params.source, scratch), params)


def prepare(dataset: Dataset, params: PrepareParams) -> None:
    """Write the outputs, and print what they hold."""
    images, labels, test_images, test_labels, classes = dataset
    train = Split(images, np.arange(len(labels)), labels)
    test = Split(test_images, np.arange(len(test_labels)), test_labels)
    if not len(test_labels):
        held_out = hold_out(labels, classes, params, "test_split")
        train, test = train.of(~held_out), train.of(held_out)
    found, leaked = examine(train, test, classes)
    if params.remove_leaked:
        train = train.of(~leaked)
    held_out = hold_out(train.labels, classes, params, "validation_split")
    splits = {"train": train.of(~held_out), "validation": train.of(held_out), "test": test}
    counts = pd.DataFrame(
        {"label": range(len(classes)), "class": classes}
        | {name: np.bincount(split.labels) for name, split in splits.items()}
    )
    paths = [PREPARED / f"{name}.npz" for name in splits]
    outputs = replacing(*paths, METRICS / "data.json", METRICS / "classes.csv")
    with outputs as (*partials, numbers, table):
        for split, partial in zip(splits.values(), partials, strict=True):
            normalized = map(normalize, split.chunks())
            write_arrays(partial, normalized, split.labels.astype(np.int64), classes)
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


def examine(
    train: Split, test: Split, classes: npt.NDArray[np.str_]
) -> tuple[dict[str, int], npt.NDArray[np.bool_]]:
    """The numbers of `data.json`, and which of the N training images (of which some will be the
    validation images) are in the test set too, pixel by pixel: bool [N].

    `duplicates` are training images that repeat an earlier one; `contradictions` those of them
    whose label differs from each earlier one's; `constant_images`, of both sets, have one value in
    all pixels.
    """
    (digests, constant), (test_digests, test_constant) = fingerprints(train), fingerprints(test)
    labelled = pd.DataFrame({"image": digests, "label": train.labels})
    leaked = labelled["image"].isin(test_digests).to_numpy()
    duplicates = labelled["image"].duplicated().sum()
    shape = train.images.shape
    found = {
        "classes": len(classes),
        "height": shape[1],
        "width": shape[2],
        "channels": math.prod(shape[3:]),
        "duplicates": duplicates,
        "contradictions": duplicates - labelled.duplicated().sum(),
        "leaked_images": leaked.sum(),
        "constant_images": constant + test_constant,
    }
    return {name: int(value) for name, value in found.items()}, leaked


def fingerprints(split: Split) -> tuple[npt.NDArray[np.uint64], int]:
    """A digest of each image's pixels (64 bits: among a million images, the chance that any two
    that differ share one is 3 in 100 million), and how many images have one value in all pixels."""
    digests, constant = [], 0
    for chunk in split.chunks():
        images = chunk.reshape(len(chunk), -1)
        content = b"".join(blake2b(image.data, digest_size=8).digest() for image in images)
        digests.append(np.frombuffer(content, np.uint64))
        constant += int(np.count_nonzero(np.ptp(images, axis=1) == 0))
    return np.concatenate(digests), constant


def normalize(images: Images) -> npt.NDArray[np.float32]:
    """Images uint8 [N, H, W] or [N, H, W, C] in [0, 255] to float32 [N, H, W, C] in [0, 1]."""
    channels = np.asarray(images).reshape(*images.shape[:3], -1)
    return channels.astype(np.float32) / np.float32(255)


if __name__ == "__main__":
    main()
