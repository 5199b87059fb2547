"""`python -m benchmarks.contestants NAME SEED`: train one network in a new process.

NAME is `default` (the parameters in params.yaml), a recipe, `RECIPE, N epochs`, one of RIVALS, or
one of ALTERNATIVES, from which people start. Prints a line of JSON after each epoch: `seconds` of
training so far, including compilation and validation, and the `accuracy` on the test images. The
time to measure the accuracy isn't counted. Training uses 2 threads.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from omegaconf import OmegaConf

from benchmarks.rivals import RIVALS, THREADS, Epochs, Rival, train_here
from mnist_cnn.data.arrays import DIGITS, Arrays
from mnist_cnn.data.images import normalize
from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.data.splits import hold_out
from mnist_cnn.params import Params


def main(name: str, seed: int) -> None:
    train, test = mnist_arrays()
    if name in ALTERNATIVES:
        ALTERNATIVES[name](train, test, seed)
    elif name in RIVALS:
        train_rival(RIVALS[name], train, test, seed)
    else:
        train_recipe(compose(name), train, test, seed)


def mnist_arrays() -> tuple[Arrays, Arrays]:
    """Return all training and test images of MNIST."""
    mnist = load_mnist()
    return (
        Arrays(normalize(mnist.train_images), mnist.train_labels.astype(np.int64)),
        Arrays(normalize(mnist.test_images), mnist.test_labels.astype(np.int64)),
    )


class Stopwatch:
    """Counts the seconds of training, without the time to measure the accuracy."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.start = time.perf_counter()

    def report(self, accuracy: Callable[[], float]) -> None:
        self.seconds += time.perf_counter() - self.start
        print(json.dumps({"seconds": self.seconds, "accuracy": accuracy()}), flush=True)
        self.start = time.perf_counter()


def compose(name: str) -> Params:
    """Return the parameters that `dvc exp run -S +recipes=RECIPE -S train.epochs=N` composes."""
    recipe, _, epochs = name.removesuffix(" epochs").partition(", ")
    layers = [OmegaConf.load("params.yaml")]
    if recipe != "default":
        layers.append(OmegaConf.load(Path("recipes", f"{recipe}.yaml")))
    if epochs:
        layers.append(OmegaConf.create({"train": {"epochs": int(epochs)}}))
    return merge(*layers)


def merge(*layers: Any) -> Params:
    """Return valid parameters from mappings, of which later ones take precedence."""
    return Params.model_validate(OmegaConf.to_container(OmegaConf.merge(*layers)))


def train_recipe(params: Params, images: Arrays, test: Arrays, seed: int) -> None:
    import_module("mnist_cnn.training.fit")  # before the time is taken
    train, validation = split(images, params)
    report_epochs(train_here(params, train, validation, seed), test)


def split(images: Arrays, params: Params) -> tuple[Arrays, Arrays]:
    """Return the images to train on, and those held out for validation."""
    held_out = hold_out(images.labels, DIGITS, params.prepare, "validation_split")
    return subset(images, ~held_out), subset(images, held_out)


def subset(arrays: Arrays, index: npt.NDArray[Any]) -> Arrays:
    return Arrays(arrays.images[index], arrays.labels[index])


def train_rival(rival: Rival, images: Arrays, test: Arrays, seed: int) -> None:
    """Train with the settings of `fast`, but without validation."""
    import_module(rival.library)
    params = compose("fast")
    train = images if rival.all_images else split(images, params)[0]
    report_epochs(rival.train(params, train, seed), test)


def report_epochs(epochs: Epochs, test: Arrays) -> None:
    """Train, and report the time and the accuracy after each epoch."""
    stopwatch = Stopwatch()
    for predict in epochs:
        stopwatch.report(lambda: accuracy(predict(test.images), test))  # noqa: B023


def train_plain_keras(train: Arrays, test: Arrays, seed: int) -> None:
    """`benchmarks/plain_keras.py`."""
    from benchmarks.plain_keras import plain_network

    train_with_default_fit(plain_network, train, test, seed, batch_size=64, epochs=3, split=0.2)


def train_keras_example(train: Arrays, test: Arrays, seed: int) -> None:
    """The network and settings of https://keras.io/examples/vision/mnist_convnet/."""
    import keras
    from keras import layers

    def network() -> keras.Sequential:
        return keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(32, 3, activation="relu"),
                layers.MaxPooling2D(2),
                layers.Conv2D(64, 3, activation="relu"),
                layers.MaxPooling2D(2),
                layers.Flatten(),
                layers.Dropout(0.5),
                layers.Dense(len(DIGITS), activation="softmax"),
            ]
        )

    train_with_default_fit(network, train, test, seed, batch_size=128, epochs=15, split=0.1)


def train_with_default_fit(
    network: Callable[[], Any],
    train: Arrays,
    test: Arrays,
    seed: int,
    *,
    batch_size: int,
    epochs: int,
    split: float,
) -> None:
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    keras.utils.set_random_seed(seed)
    stopwatch = Stopwatch()
    model = network()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    def test_accuracy() -> float:
        return accuracy(model.predict(test.images, batch_size=1000, verbose=0), test)

    report = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: stopwatch.report(test_accuracy))
    model.fit(
        train.images,
        train.labels,
        batch_size=batch_size,
        epochs=epochs,
        validation_split=split,
        verbose=0,
        callbacks=[report],
    )


def train_pytorch_example(train: Arrays, test: Arrays, seed: int) -> None:
    """The network and settings of https://github.com/pytorch/examples/tree/main/mnist, with the
    images ready in memory; the original decodes and scales each of them in every epoch."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    def tensors(arrays: Arrays) -> TensorDataset:
        images = (
            np.asarray(arrays.images).transpose(0, 3, 1, 2) - np.float32(0.1307)
        ) / np.float32(0.3081)
        return TensorDataset(torch.from_numpy(images), torch.from_numpy(arrays.labels))

    torch.set_num_threads(THREADS)
    torch.manual_seed(seed)
    train_set, test_set = tensors(train), tensors(test)
    stopwatch = Stopwatch()
    network = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU()),
        *(nn.Dropout(0.5), nn.Linear(128, len(DIGITS))),
    )
    optimizer = torch.optim.Adadelta(network.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)

    def test_accuracy() -> float:
        network.eval()
        with torch.no_grad():
            scores = [network(images).numpy() for images, _ in DataLoader(test_set, 1000)]
        return accuracy(np.concatenate(scores), test)

    for _ in range(14):
        network.train()
        for images, labels in DataLoader(train_set, 64, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
        schedule.step()
        stopwatch.report(test_accuracy)


def accuracy(scores: npt.NDArray[np.float32], arrays: Arrays) -> float:
    return float((scores.argmax(axis=1) == arrays.labels).mean())


ALTERNATIVES = {
    "plain Keras script": train_plain_keras,
    "Keras example": train_keras_example,
    "PyTorch example": train_pytorch_example,
}

if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
