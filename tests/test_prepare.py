from pathlib import Path

import numpy as np
import pytest

from mnist_cnn.arrays import read_arrays
from mnist_cnn.datasets import Dataset
from mnist_cnn.errors import InputError
from stages import prepare
from stages.prepare import Split, examine, hold_out, normalize, stratified_sample
from tests.conftest import PARAMS, PARAMS_TEXT

LABELS = np.repeat(np.arange(10, dtype=np.uint8), 50)


def test_each_class_gives_the_same_share() -> None:
    drawn = stratified_sample(LABELS, share=0.1, seed=1)
    assert np.bincount(LABELS[drawn]).tolist() == [5] * 10


def test_the_seed_decides_who_is_drawn() -> None:
    first, again, other = (stratified_sample(LABELS, 0.1, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_normalize_maps_bytes_to_fractions() -> None:
    images = normalize(np.array([[[0, 51], [102, 255]]], dtype=np.uint8))
    assert images.shape == (1, 2, 2, 1)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images.ravel(), [0, 0.2, 0.4, 1], rtol=1e-7)


def test_a_class_that_is_held_out_whole_or_not_at_all_is_named() -> None:
    names = np.array(["ape", "cow"])
    params = PARAMS.prepare.model_copy(update={"validation_split": 0.1})
    with pytest.raises(
        InputError,
        match=r"prepare.validation_split is 0.1: of the 4 images of class cow it holds out 0; exp",
    ):
        hold_out(np.repeat([0, 1], [50, 4]), names, params, "validation_split")
    with pytest.raises(InputError, match="of the 0 images of class cow it holds out 0"):
        hold_out(np.zeros(50, np.int64), names, params, "validation_split")


@pytest.fixture
def spoiled() -> Dataset:
    """Twenty training and four test images with everything that `examine` looks for."""
    images = np.random.default_rng(0).integers(0, 256, (24, 2, 3, 3), dtype=np.uint8)
    labels = np.arange(24) % 2
    images[[2, 5]] = images[0]  # one of the same class, one of the other
    images[[7, 9]] = images[1]
    images[[3, 20]] = 0
    images[21:23] = images[10:12]  # in both sets
    names = np.array(["ape", "cow"])
    return Dataset(images[:20], labels[:20], images[20:], labels[20:], names)


def test_what_is_found_in_the_images(spoiled: Dataset) -> None:
    images, labels, test_images, test_labels, classes = spoiled
    train = Split(images, np.arange(20), labels)
    test = Split(test_images, np.arange(4), test_labels)
    found, leaked = examine(train, test, classes)
    assert found == {
        "classes": 2,
        "height": 2,
        "width": 3,
        "channels": 3,
        "duplicates": 4,
        "contradictions": 1,
        "leaked_images": 3,
        "constant_images": 2,
    }
    assert np.flatnonzero(leaked).tolist() == [3, 10, 11]


@pytest.mark.parametrize("removed", [False, True])
def test_leaked_images_are_removed_on_demand(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spoiled: Dataset, removed: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    text = PARAMS_TEXT.replace("remove_leaked: false", f"remove_leaked: {str(removed).lower()}")
    Path("params.yaml").write_text(text)
    monkeypatch.setattr(prepare, "load_mnist", lambda: spoiled)
    prepare.main()
    parts = [read_arrays(Path(f"data/prepared/{name}.npz")) for name in ("train", "validation")]
    kept = np.concatenate([part.images for part in parts])
    test = read_arrays(Path("data/prepared/test.npz"))
    again = [image for image in kept if (image == test.images).all(axis=(1, 2, 3)).any()]
    assert (len(kept), len(again)) == ((17, 0) if removed else (20, 3))
    assert test.classes.tolist() == ["ape", "cow"]
