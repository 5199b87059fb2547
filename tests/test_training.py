from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mnist_cnn.arrays import Arrays
from mnist_cnn.errors import InputError
from mnist_cnn.network import build_network, make_deterministic, save_network
from mnist_cnn.params import TrainParams
from mnist_cnn.training import fit, learning_rate_schedule, translate
from tests.conftest import PARAMS


def train_params(**changes: object) -> TrainParams:
    return TrainParams.model_validate(
        PARAMS.train.model_dump() | {"batch_size": 5, "epochs": 2} | changes
    )


def fitted(arrays: Arrays, path: Path, **changes: object) -> list[dict[str, float]]:
    params = train_params(**changes)
    make_deterministic(params.threads, params.seed)
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
        make_deterministic(threads=2, seed=0)  # the same initialisation and dropout for both
        network = build_network(PARAMS.model, (28, 28, 1), 10)
        list(fit(network, arrays, arrays, train_params(seed=seed, translation=0)))
        weights.append(network.get_weights()[0])
    assert (weights[0] != weights[1]).any()


def test_an_incomplete_batch_is_left_out(tmp_path: Path, arrays: Arrays) -> None:
    for epoch in fitted(arrays, tmp_path / "a.keras", batch_size=19):
        correct = epoch["accuracy"] * 19
        assert correct == pytest.approx(round(correct))


def test_a_batch_larger_than_the_data_is_refused(arrays: Arrays) -> None:
    network = build_network(PARAMS.model, (28, 28, 1), 10)
    with pytest.raises(InputError, match=r"train.batch_size is 21: expected at most 20"):
        list(fit(network, arrays, arrays, train_params(batch_size=21)))


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


def test_translate_moves_whole_images_within_bounds() -> None:
    images = np.zeros((200, 9, 9, 1), np.float32)
    images[:, 4, 4] = 1
    moved = translate(tf.constant(images), pixels=2, seed=tf.constant([1, 2])).numpy()
    assert moved.shape == images.shape
    image, row, column, _ = np.nonzero(moved)
    np.testing.assert_array_equal(image, np.arange(200))
    assert set(row - 4) == set(column - 4) == {-2, -1, 0, 1, 2}


def test_translate_brings_in_background_and_follows_its_seed() -> None:
    images = tf.ones((50, 5, 5, 1))
    first, again, other = (translate(images, 1, tf.constant([1, step])) for step in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).numpy().any()
    assert set(np.unique(first)) == {0, 1}
    assert set(first.numpy().sum(axis=(1, 2, 3))) == {16, 20, 25}
