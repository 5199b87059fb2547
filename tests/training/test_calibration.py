import numpy as np
import pytest

from mnist_cnn.data.arrays import Arrays
from mnist_cnn.model.backend import set_seed
from mnist_cnn.model.network import build_network, predict_proba
from mnist_cnn.training.calibration import calibrate
from tests.helpers import PARAMS


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
