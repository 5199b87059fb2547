"""Calibrate a trained network's probabilities."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from mnist_cnn.data.arrays import Arrays
from mnist_cnn.model.backend import keras
from mnist_cnn.model.network import predict_proba


def calibrate(network: keras.Sequential, validation: Arrays) -> float:
    """Divide the network's logits by a temperature, in place, so that its confidence matches its
    accuracy. Return the temperature.

    The temperature, from 0.1 to 10, minimises the cross-entropy on `validation` (Guo et al. 2017,
    https://arxiv.org/abs/1706.04599). The predicted classes stay the same. The weights of the last
    layer are divided, so the network needs no extra layer.
    """
    probabilities = predict_proba(network, validation.images)
    scores = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny), dtype=np.float64)

    def loss(temperature: float) -> float:
        log_probabilities = log_softmax(scores / temperature, axis=1)
        chosen = np.take_along_axis(log_probabilities, validation.labels[:, np.newaxis], axis=1)
        return -float(chosen.mean())

    temperature = round(float(minimize_scalar(loss, bounds=(0.1, 10), method="bounded").x), 4)
    output = network.layers[-1]
    output.set_weights([weights / temperature for weights in output.get_weights()])
    return temperature
