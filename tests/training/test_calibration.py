from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mnist_cnn.data.arrays import Arrays
from mnist_cnn.errors import InputError
from mnist_cnn.model.backend import set_seed
from mnist_cnn.model.network import build_network, predict_proba
from mnist_cnn.training.calibration import calibrate
from tests.helpers import PARAMS

Weights = npt.NDArray[Any]


def test_a_network_without_mistakes_does_not_become_more_confident() -> None:
    images = np.random.default_rng(0).random((100, 28, 28, 1), dtype=np.float32)
    set_seed(0)
    network = build_network(PARAMS.model, (28, 28, 1), 10)
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([20 * kernel, bias])
    before = predict_proba(network, images)
    assert calibrate(network, Arrays(images, before.argmax(axis=1))) == 1
    np.testing.assert_array_equal(predict_proba(network, images), before)


def dead(weights: list[Weights]) -> list[Weights]:
    """Keep the first ReLU from ever firing, as a high learning rate can."""
    return [weights[0], weights[1] - 1000, *weights[2:]]


def random(weights: list[Weights]) -> list[Weights]:
    return weights


def not_finite(weights: list[Weights]) -> list[Weights]:
    return [*weights[:-1], weights[-1] * np.nan]


@pytest.mark.parametrize("change", [dead, random, not_finite])
def test_a_network_that_learned_nothing_is_refused(
    arrays: Arrays, change: Callable[[list[Weights]], list[Weights]]
) -> None:
    set_seed(0)
    network = build_network(PARAMS.model, (28, 28, 1), 10)
    network.set_weights(change(network.get_weights()))
    with pytest.raises(
        InputError, match=r"learned nothing: it classifies \d+.0% .* lower train.learning_rate in p"
    ):
        calibrate(network, arrays)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_calibration_finds_the_temperature_and_changes_no_answer(temperature: float) -> None:
    random = np.random.default_rng(0)
    images = random.random((4000, 28, 28, 1), dtype=np.float32)
    set_seed(0)
    network = build_network(PARAMS.model, (28, 28, 1), 10)
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([20 * kernel, bias])  # so that some answers are certain
    honest = predict_proba(network, images)
    labels = (random.random((4000, 1)) > honest.cumsum(axis=1)).sum(axis=1).clip(max=9)
    network.layers[-1].set_weights([20 * kernel * temperature, bias * temperature])
    found = calibrate(network, Arrays(images, labels))
    assert found == pytest.approx(temperature, rel=0.1)
    calibrated = predict_proba(network, images)
    np.testing.assert_allclose(calibrated, honest, atol=0.1)
    assert (calibrated.argmax(axis=1) == honest.argmax(axis=1)).all()
