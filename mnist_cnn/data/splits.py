"""Split a dataset into training, validation and test sets, and report what they contain."""

from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from mnist_cnn.data.images import Images, iterate_chunks
from mnist_cnn.data.mnist import Dataset
from mnist_cnn.errors import InputError
from mnist_cnn.params import PARAMS_PATH, PrepareParams


class Split(NamedTuple):
    """A subset of a dataset: `indices` into `images`, uint8 [N, H, W] or [N, H, W, C] in [0, 255],
    and the `labels` at those indices, integers in [0, K)."""

    images: Images
    indices: npt.NDArray[np.integer]
    labels: npt.NDArray[np.integer]

    def select(self, mask: npt.NDArray[np.bool_]) -> "Split":
        return Split(self.images, self.indices[mask], self.labels[mask])

    def chunks(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the images in chunks of about a megabyte, with a progress bar on a terminal."""
        count = len(self.indices)
        with tqdm(total=count, unit="image", delay=1, leave=False, disable=None) as bar:
            for chunk in iterate_chunks(self.images, self.indices):
                yield chunk
                bar.update(len(chunk))


def split_dataset(dataset: Dataset, params: PrepareParams) -> tuple[dict[str, Split], pd.DataFrame]:
    """Return the splits `train`, `validation` and `test`, and a report with one row per class.

    A dataset without test or validation images gets them from each class's training images. The
    report has the columns `label, class`, the number of images in each split, and the counts from
    `count_suspect_images`.

    Raises:
        InputError: there are too few images of a class.
    """
    classes = dataset.classes
    train = _whole(dataset.train_images, dataset.train_labels)
    if not len(dataset.test_labels):
        held_out = hold_out(train.labels, classes, params, "test_split")
        train, test = train.select(~held_out), train.select(held_out)
    else:
        test = _whole(dataset.test_images, dataset.test_labels)
    suspects, leaked = count_suspect_images(train, test, len(classes))
    if params.remove_leaked:
        train = train.select(~leaked)
    if not len(dataset.validation_labels):
        held_out = hold_out(train.labels, classes, params, "validation_split")
        train, validation = train.select(~held_out), train.select(held_out)
    else:
        validation = _whole(dataset.validation_images, dataset.validation_labels)
    splits = {"train": train, "validation": validation, "test": test}
    sizes = {
        name: np.bincount(split.labels, minlength=len(classes)) for name, split in splits.items()
    }
    report = pd.DataFrame({"label": range(len(classes)), "class": classes} | sizes)
    return splits, report.join(suspects)


def _whole(images: Images, labels: npt.NDArray[np.integer]) -> Split:
    return Split(images, np.arange(len(labels)), labels)


def hold_out(
    labels: npt.NDArray[np.integer], classes: npt.NDArray[np.str_], params: PrepareParams, name: str
) -> npt.NDArray[np.bool_]:
    """Draw at random the fraction of each class set by the parameter `name`, and at least
    `minimum_per_class` images: bool [N], True where drawn.

    Raises:
        InputError: it would draw all images of a class.
    """
    share = getattr(params, name)
    totals = np.bincount(labels, minlength=len(classes))
    counts = np.maximum(np.round(share * totals).astype(int), params.minimum_per_class)
    if (unusable := np.flatnonzero(counts >= totals)).size:
        label = unusable[0]
        raise InputError(
            f"class {classes[label]} has {totals[label]} images to train on, of which "
            f"prepare.{name} and prepare.minimum_per_class in {PARAMS_PATH} hold out "
            f"{counts[label]}: expected fewer; add images, remove the class, or lower one of them"
        )
    random = np.random.RandomState(params.seed)
    drawn = np.zeros(len(labels), dtype=np.bool_)
    for label, count in enumerate(counts):
        drawn[random.choice(np.flatnonzero(labels == label), count, replace=False)] = True
    return drawn


def count_suspect_images(
    train: Split, test: Split, class_count: int
) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """Count suspect images, one row per class. Also return which of the N training images are in
    the test set, pixel for pixel: bool [N]. Training images include those that are later held out
    for validation.

    - `duplicates`: training images that repeat an earlier one
    - `contradictions`: duplicates whose label differs from that of every earlier copy
    - `leaked_images`: training images that are also in the test set
    - `constant_images`: images of either set whose pixels all have the same value
    """
    digests, constant = _digest_images(train)
    test_digests, test_constant = _digest_images(test)
    labelled = pd.DataFrame({"image": digests, "label": train.labels})
    duplicated = labelled["image"].duplicated()
    leaked = labelled["image"].isin(test_digests)
    suspects = {
        "duplicates": train.labels[duplicated],
        "contradictions": train.labels[duplicated & ~labelled.duplicated()],
        "leaked_images": train.labels[leaked],
        "constant_images": np.concatenate([train.labels[constant], test.labels[test_constant]]),
    }
    counts = {name: np.bincount(labels, minlength=class_count) for name, labels in suspects.items()}
    return pd.DataFrame(counts), leaked.to_numpy()


def _digest_images(split: Split) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """Return a 64-bit digest of each image's pixels, and whether they all have the same value. The
    chance that any two of a million different images share a digest is 3 in 100 million."""
    digests, constant = [], []
    for chunk in split.chunks():
        images = chunk.reshape(len(chunk), -1)
        content = b"".join(blake2b(image.data, digest_size=8).digest() for image in images)
        digests.append(np.frombuffer(content, np.uint64))
        constant.append(np.ptp(images, axis=1) == 0)
    return np.concatenate(digests), np.concatenate(constant)
