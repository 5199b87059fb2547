import numpy as np
import numpy.typing as npt
import pytest

from mnist_cnn.data.arrays import DIGITS
from mnist_cnn.data.images import normalize
from mnist_cnn.data.mnist import Dataset
from mnist_cnn.data.splits import hold_out, split_dataset
from mnist_cnn.errors import InputError
from tests.helpers import PARAMS

LABELS = np.repeat(np.arange(10, dtype=np.uint8), 50)


def draw(share: float, minimum: int, seed: int) -> npt.NDArray[np.bool_]:
    changed = {"validation_split": share, "minimum_per_class": minimum, "seed": seed}
    params = PARAMS.prepare.model_copy(update=changed)
    return hold_out(LABELS, DIGITS, params, "validation_split")


@pytest.mark.parametrize(("share", "minimum", "count"), [(0.1, 3, 5), (0.1, 8, 8), (0.001, 1, 1)])
def test_each_class_gives_its_share_or_the_minimum(share: float, minimum: int, count: int) -> None:
    drawn = draw(share, minimum, seed=1)
    assert np.bincount(LABELS[drawn]).tolist() == [count] * 10


def test_the_seed_decides_which_images_are_drawn() -> None:
    first, again, other = (draw(0.1, 1, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_normalize_maps_bytes_to_fractions() -> None:
    images = normalize(np.array([[[0, 51], [102, 255]]], dtype=np.uint8))
    assert images.shape == (1, 2, 2, 1)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images.ravel(), [0, 0.2, 0.4, 1], rtol=1e-7)


def test_a_class_with_too_few_images_is_named() -> None:
    names = np.array(["ape", "cow"])
    with pytest.raises(
        InputError,
        match=r"class cow has 3 images to train on, of which prepare.validation_split and prepare.m"
        r"inimum_per_class in params.yaml hold out 3: expected fewer; add images, remove the class",
    ):
        hold_out(np.repeat([0, 1], [50, 3]), names, PARAMS.prepare, "validation_split")


@pytest.fixture
def spoiled() -> Dataset:
    """Twenty training and four test images, with every problem in the report."""
    images = np.random.default_rng(0).integers(0, 256, (24, 2, 3, 3), dtype=np.uint8)
    labels = np.arange(24) % 2
    images[[2, 5]] = images[0]  # one in the same class, one in the other
    images[[7, 9]] = images[1]
    images[[3, 20]] = 0
    images[21:23] = images[10:12]  # in both sets
    names = np.array(["ape", "cow"])
    return Dataset(images[:20], labels[:20], images[20:], labels[20:], names)


@pytest.mark.parametrize("removed", [False, True])
def test_suspect_images_are_counted_and_leaked_ones_removed_on_demand(
    spoiled: Dataset, removed: bool
) -> None:
    params = {"remove_leaked": removed, "validation_split": 0.2}
    splits, report = split_dataset(spoiled, PARAMS.prepare.model_copy(update=params))
    assert report.drop(columns=["train", "validation", "test"]).to_dict("records") == [
        {
            "label": 0,
            "class": "ape",
            "duplicates": 1,
            "contradictions": 0,
            "leaked_images": 1,
            "constant_images": 1,
        },
        {
            "label": 1,
            "class": "cow",
            "duplicates": 3,
            "contradictions": 1,
            "leaked_images": 2,
            "constant_images": 1,
        },
    ]
    for name, split in splits.items():
        assert report[name].tolist() == np.bincount(split.labels).tolist()
    used = np.concatenate([splits["train"].indices, splits["validation"].indices])
    leaked = [3, 10, 11]
    assert sorted(used) == [i for i in range(20) if not (removed and i in leaked)]
    assert splits["test"].indices.tolist() == [0, 1, 2, 3]
