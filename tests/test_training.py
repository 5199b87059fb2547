from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from mnist_cnn.arrays import Arrays
from mnist_cnn.errors import InputError
from mnist_cnn.network import (
    build_network,
    load_network,
    make_deterministic,
    predict,
    save_network,
)
from mnist_cnn.params import TrainParams
from mnist_cnn.training import augment, calibrate, dropout, fit, learning_rate_schedule
from tests.conftest import PARAMS


def train_params(**changes: object) -> TrainParams:
    return TrainParams.model_validate(
        PARAMS.train.model_dump() | {"batch_size": 4, "epochs": 2} | changes
    )


def fitted(arrays: Arrays, path: Path, **changes: object) -> list[dict[str, float]]:
    params = train_params(**changes)
    make_deterministic(params.seed)
    network = build_network(PARAMS.model, (28, 28, 1), 10)
    epochs = list(fit(network, arrays, arrays, params))
    save_network(network, path)
    return epochs


def test_a_fit_repeats_to_the_bit_and_the_seed_matters(tmp_path: Path, arrays: Arrays) -> None:
    a, b, c = (tmp_path / f"{name}.keras" for name in "abc")
    assert fitted(arrays, a) == fitted(arrays, b)
    fitted(arrays, c, seed=7)
    assert a.read_bytes() == b.read_bytes()
    assert a.read_bytes() != c.read_bytes()


def test_a_fit_learns_and_reports_each_epoch(tmp_path: Path, arrays: Arrays) -> None:
    epochs = fitted(arrays, tmp_path / "a.keras", epochs=40, translation=0, learning_rate=0.001)
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, 41))
    assert list(epochs[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert epochs[-1]["val_loss"] < 0.5 * epochs[0]["val_loss"]
    assert epochs[-1]["val_accuracy"] == 1
    assert 0 <= epochs[0]["accuracy"] <= 1


def test_the_seed_decides_the_order_of_the_images(arrays: Arrays) -> None:
    weights = []
    for seed in (1, 2):
        make_deterministic(seed=0)  # the same initialisation and dropout for both
        network = build_network(PARAMS.model, (28, 28, 1), 10)
        list(fit(network, arrays, arrays, train_params(seed=seed, translation=0)))
        weights.append(network.get_weights()[0])
    assert (weights[0] != weights[1]).any()


def test_an_incomplete_batch_is_left_out(tmp_path: Path, arrays: Arrays) -> None:
    for epoch in fitted(arrays, tmp_path / "a.keras", batch_size=19, shards=1):
        correct = epoch["accuracy"] * 19
        assert correct == pytest.approx(round(correct))


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_calibration_finds_the_temperature_and_changes_no_answer(temperature: float) -> None:
    random = np.random.default_rng(0)
    images = random.random((4000, 28, 28, 1), dtype=np.float32)
    network = build_network(PARAMS.model, (28, 28, 1), 10)
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([20 * kernel, bias])  # so that some answers are sure
    honest = predict(network, images, batch_size=1000)
    labels = (random.random((4000, 1)) > honest.cumsum(axis=1)).sum(axis=1).clip(max=9)
    network.layers[-1].set_weights([20 * kernel * temperature, bias * temperature])
    found = calibrate(network, Arrays(images, labels))
    assert found == pytest.approx(temperature, rel=0.1)
    calibrated = predict(network, images, batch_size=1000)
    np.testing.assert_allclose(calibrated, honest, atol=0.1)
    assert (calibrated.argmax(axis=1) == honest.argmax(axis=1)).all()


def test_a_batch_larger_than_the_data_is_refused(arrays: Arrays) -> None:
    network = build_network(PARAMS.model, (28, 28, 1), 10)
    with pytest.raises(InputError, match=r"train.batch_size is 22: expected at most 20"):
        list(fit(network, arrays, arrays, train_params(batch_size=22)))


def test_shards_of_different_sizes_are_refused(arrays: Arrays) -> None:
    network = build_network(PARAMS.model, (28, 28, 1), 10)
    with pytest.raises(InputError, match=r"train.shards is 3: expected a divisor of .* is 4"):
        list(fit(network, arrays, arrays, train_params(shards=3)))


def test_shards_give_the_gradient_of_their_batch(arrays: Arrays) -> None:
    trained = []
    for shards in (1, 4):
        make_deterministic()
        network = build_network(PARAMS.model.model_copy(update={"dropout": 0.0}), (28, 28, 1), 10)
        list(fit(network, arrays, arrays, train_params(shards=shards, translation=0, epochs=1)))
        trained.append(network.get_weights())
    for whole, sharded in zip(*trained, strict=True):
        np.testing.assert_allclose(sharded, whole, atol=1e-3)


def test_a_loss_that_is_not_a_number_stops_the_fit(arrays: Arrays) -> None:
    network = build_network(PARAMS.model, (28, 28, 1), 10)
    network.set_weights([np.full_like(weights, np.nan) for weights in network.get_weights()])
    with pytest.raises(InputError, match=r"loss became nan in epoch 1: .* lower train.learning"):
        list(fit(network, arrays, arrays, train_params()))


def test_the_rate_climbs_and_falls() -> None:
    params = train_params(learning_rate=0.01, final_learning_rate=0.001, warmup=0.2)
    schedule = learning_rate_schedule(params, steps=100)
    rates = [float(schedule(step)) for step in range(101)]
    assert rates[0] == 0
    assert rates[10] == pytest.approx(0.005)
    assert rates[20] == pytest.approx(0.01)
    assert rates[60] == pytest.approx(0.0055)
    assert rates[100] == pytest.approx(0.001)
    assert all(earlier > later for earlier, later in pairwise(rates[20:]))


def test_a_constant_rate_is_constant() -> None:
    params = train_params(learning_rate=0.001, final_learning_rate=0.001, warmup=0)
    schedule = learning_rate_schedule(params, steps=10)
    assert [float(schedule(step)) for step in range(10)] == pytest.approx([0.001] * 10)


def test_a_warmup_leaves_a_step_to_fall() -> None:
    for steps in (1, 100):
        schedule = learning_rate_schedule(train_params(warmup=0.9999), steps)
        assert float(schedule(steps)) == 0


def test_dropout_hides_its_share_and_keeps_the_sum() -> None:
    ones = tf.ones((333, 3001))  # a number of values that 4 does not divide
    kept, again, other = (dropout(ones, 0.2, tf.constant([1, i])).numpy() for i in (5, 5, 6))
    assert set(np.unique(kept)) == {0, np.float32(256 / 205)}
    assert kept.mean() == pytest.approx(1, abs=0.002)
    for axis in (0, 1):  # no row or column is hidden more than others
        assert (kept == 0).mean(axis=axis) == pytest.approx(51 / 256, abs=0.15)
    assert (kept == again).all()
    assert (kept == other).mean() == pytest.approx(0.8**2 + 0.2**2, abs=0.01)
    assert (dropout(ones, 0.0, tf.constant([1, 5])) == ones).numpy().all()
    nearly_all = dropout(ones, 0.999, tf.constant([1, 5])).numpy()
    assert set(np.unique(nearly_all)) == {0, 256}


def test_the_dropout_of_the_network_acts_in_training(arrays: Arrays) -> None:
    losses = []
    for rate in (0.0, 0.2):
        make_deterministic()
        network = build_network(PARAMS.model, (28, 28, 1), 10)
        [layer] = [layer for layer in network.layers if isinstance(layer, keras.layers.Dropout)]
        layer.rate = rate
        losses.append(next(fit(network, arrays, arrays, train_params()))["loss"])
    assert losses[0] != losses[1]


def one_dot(row: int, column: int, count: int = 200) -> tf.Tensor:
    images = np.zeros((count, 9, 9, 1), np.float32)
    images[:, row, column] = 1
    return tf.constant(images)


def centre_of_mass(images: tf.Tensor) -> npt.NDArray[np.float64]:
    """Rows and columns [2, N], from the centre of images of 9 x 9 pixels."""
    mass = images.numpy()[..., 0].astype(np.float64)
    mass /= mass.sum(axis=(1, 2), keepdims=True)
    offset = np.arange(9) - 4
    return np.stack([(mass.sum(axis=2) * offset).sum(axis=1), (mass.sum(axis=1) * offset).sum(1)])


def augmented(images: tf.Tensor, seed: tuple[int, int] = (1, 2), **amounts: float) -> tf.Tensor:
    return augment(images, train_params(**{"translation": 0} | amounts), tf.constant(seed))


@pytest.mark.parametrize("amount", ["translation", "rotation", "zoom", "shear"])
def test_without_an_amount_an_image_stays(amount: str, arrays: Arrays) -> None:
    images = tf.constant(arrays.images)
    np.testing.assert_allclose(augmented(images), images, atol=1e-5)
    assert np.abs(augmented(images, (1, 2), **{amount: 0.5}) - images).max() > 0.01


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


def test_what_comes_in_is_background_and_follows_the_seed() -> None:
    ones = tf.ones((50, 5, 5, 1))
    first, again, other = (augmented(ones, (1, step), translation=1) for step in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).numpy().any()
    assert first.numpy().min() < 0.1
    assert first.numpy().max() <= 1
    assert first.numpy().sum(axis=(1, 2, 3)).min() < 20


def test_label_smoothing_keeps_the_network_from_certainty(tmp_path: Path, arrays: Arrays) -> None:
    certainties = {}
    for smoothing in (0.0, 0.5):
        changes = {"epochs": 40, "translation": 0, "learning_rate": 0.001}
        epochs = fitted(arrays, tmp_path / "a.keras", label_smoothing=smoothing, **changes)
        assert epochs[-1]["loss"] < 1  # of the labels as they are
        probabilities = predict(load_network(tmp_path / "a.keras"), arrays.images, 20)
        assert (probabilities.argmax(axis=1) == arrays.labels).all()
        certainties[smoothing] = probabilities.max(axis=1).mean()
    assert certainties[0.0] > 0.8
    assert certainties[0.5] == pytest.approx(0.55, abs=0.05)
