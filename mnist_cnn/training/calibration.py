"""Calibrate a trained network's probabilities."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import chi2_contingency
from scipy.stats.contingency import crosstab

from mnist_cnn.data.arrays import Arrays
from mnist_cnn.errors import InputError
from mnist_cnn.model.backend import keras
from mnist_cnn.model.network import predict_proba
from mnist_cnn.params import PARAMS_PATH

CHANCE = 0.05  # p-value


def calibrate(network: keras.Sequential, validation: Arrays) -> float:
    """Divide the network's logits by a temperature, in place, so that its confidence matches its
    accuracy. Return the temperature.

    The temperature, from 0.1 to 10, minimises the cross-entropy on `validation` (Guo et al. 2017,
    https://arxiv.org/abs/1706.04599). Without a mistake on `validation`, it would only make the
    network overconfident, so it is at least 1 then. The predicted classes stay the same. The
    weights of the last layer are divided, so the network needs no extra layer.

    Raises:
        InputError: the network's answers are no better than chance.
    """
    probabilities = predict_proba(network, validation.images)
    answers = probabilities.argmax(axis=1)
    _check_answers(validation.labels, answers)
    scores = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny), dtype=np.float64)

    def loss(temperature: float) -> float:
        log_probabilities = log_softmax(scores / temperature, axis=1)
        chosen = np.take_along_axis(log_probabilities, validation.labels[:, np.newaxis], axis=1)
        return -float(chosen.mean())

    lowest = 0.1 if (answers != validation.labels).any() else 1.0
    temperature = round(float(minimize_scalar(loss, bounds=(lowest, 10), method="bounded").x), 4)
    output = network.layers[-1]
    output.set_weights([weights / temperature for weights in output.get_weights()])
    return temperature


def _check_answers(labels: npt.NDArray[np.int64], answers: npt.NDArray[np.int64]) -> None:
    """Check with Pearson's chi-squared test that the answers depend on the labels. A network that
    learned nothing often gives all images the same answer."""
    if chi2_contingency(crosstab(labels, answers).count).pvalue < CHANCE:
        return
    correct = (labels == answers).mean()
    raise InputError(
        f"the network learned nothing: it classifies {correct:.1%} of the validation images "
        f"correctly, but not better than chance; lower train.learning_rate in {PARAMS_PATH}, train "
        "longer, or check that the labels fit the images"
    )
