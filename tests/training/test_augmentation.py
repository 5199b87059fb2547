"""Augmentation and dropout: what changes, by how much, and that it depends only on the seed."""

import numpy as np
import numpy.typing as npt
import pytest

from mnist_cnn.data.arrays import Arrays
from mnist_cnn.model.backend import tf
from mnist_cnn.training.augmentation import augment, dropout
from tests.helpers import PARAMS


def augmented(images: tf.Tensor, seed: tuple[int, int] = (1, 2), **amounts: float) -> tf.Tensor:
    params = PARAMS.train.model_copy(update={"translation": 0} | amounts)
    return augment(images, params, tf.constant(seed))


def one_dot(row: int, column: int, count: int = 200) -> tf.Tensor:
    images = np.zeros((count, 9, 9, 1), np.float32)
    images[:, row, column] = 1
    return tf.constant(images)


def centre_of_mass(images: tf.Tensor) -> npt.NDArray[np.float64]:
    """Return rows and columns [2, N], relative to the centre of images of 9 x 9 pixels."""
    mass = images.numpy()[..., 0].astype(np.float64)
    mass /= mass.sum(axis=(1, 2), keepdims=True)
    offset = np.arange(9) - 4
    return np.stack([(mass.sum(axis=2) * offset).sum(axis=1), (mass.sum(axis=1) * offset).sum(1)])


@pytest.mark.parametrize("amount", ["translation", "rotation", "zoom", "shear"])
def test_each_amount_changes_the_image_and_zero_does_not(amount: str, arrays: Arrays) -> None:
    images = tf.constant(arrays.images)
    np.testing.assert_allclose(augmented(images), images, atol=1e-5)
    assert np.abs(augmented(images, (1, 2), **{amount: 0.5}) - images).max() > 0.01


def test_half_of_the_images_are_mirrored() -> None:
    original = one_dot(2, 7)
    images = augmented(original, horizontal_flip=True).numpy()
    mirrored = (images == original.numpy()[:, :, ::-1]).all(axis=(1, 2, 3))
    assert 70 < mirrored.sum() < 130
    np.testing.assert_array_equal(images[~mirrored], original.numpy()[~mirrored])


def test_images_are_shifted_within_bounds() -> None:
    rows, columns = centre_of_mass(augmented(one_dot(4, 4), translation=2))
    for shifts in (rows, columns):
        assert -2 <= shifts.min() < -1.8
        assert 1.8 < shifts.max() <= 2
        assert abs(shifts.mean()) < 0.25
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.25


def test_images_are_rotated_about_their_centre() -> None:
    np.testing.assert_allclose(centre_of_mass(augmented(one_dot(4, 4), rotation=90)), 0, atol=1e-5)
    rows, columns = centre_of_mass(augmented(one_dot(4, 7), rotation=30))
    np.testing.assert_allclose(np.hypot(rows, columns), 3, atol=0.2)
    angles = np.degrees(np.arctan2(rows, columns))
    assert -33 < angles.min() < -27
    assert 27 < angles.max() < 33


def test_images_are_zoomed_by_height_and_by_width() -> None:
    heights, columns = centre_of_mass(augmented(one_dot(7, 4), zoom=0.2))
    np.testing.assert_allclose(columns, 0, atol=1e-5)
    _, widths = centre_of_mass(augmented(one_dot(4, 7), zoom=0.2))
    for sizes in (heights, widths):
        assert 3 / 1.2 - 0.1 < sizes.min() < 2.7
        assert 3.4 < sizes.max() < 3 / 0.8 + 0.1
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.25


def test_images_are_sheared_along_their_rows() -> None:
    rows, columns = centre_of_mass(augmented(one_dot(7, 4), shear=0.3))
    np.testing.assert_allclose(rows, 3, atol=1e-5)
    assert -0.95 < columns.min() < -0.8
    assert 0.8 < columns.max() < 0.95
    np.testing.assert_allclose(augmented(one_dot(4, 7), shear=0.3), one_dot(4, 7), atol=1e-5)


def test_background_comes_in_and_the_seed_decides() -> None:
    ones = tf.ones((50, 5, 5, 1))
    first, again, other = (augmented(ones, (1, step), translation=1) for step in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).numpy().any()
    assert first.numpy().min() < 0.1
    assert first.numpy().max() <= 1
    assert first.numpy().sum(axis=(1, 2, 3)).min() < 20


def test_dropout_drops_its_share_and_keeps_the_sum() -> None:
    ones = tf.ones((333, 3001))  # not a multiple of 4 values
    kept, again, other = (dropout(ones, 0.2, tf.constant([1, i])).numpy() for i in (5, 5, 6))
    assert set(np.unique(kept)) == {0, np.float32(256 / 205)}
    assert kept.mean() == pytest.approx(1, abs=0.002)
    for axis in (0, 1):  # the same in all rows and columns
        assert (kept == 0).mean(axis=axis) == pytest.approx(51 / 256, abs=0.15)
    assert (kept == again).all()
    assert (kept == other).mean() == pytest.approx(0.8**2 + 0.2**2, abs=0.01)
    assert (dropout(ones, 0.0, tf.constant([1, 5])) == ones).numpy().all()
    nearly_all = dropout(ones, 0.999, tf.constant([1, 5])).numpy()
    assert set(np.unique(nearly_all)) == {0, 256}
