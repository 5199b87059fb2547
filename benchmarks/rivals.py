"""Train the recipes' networks with Keras' `fit` and with PyTorch, each as fast as its documentation
says, to compare the training loops. All have the same batch size and learning rates and no
augmentation; the rivals' bytes may differ from run to run, and they use 2 threads as they see fit.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from mnist_cnn.data.arrays import DIGITS, Arrays
from mnist_cnn.params import ModelParams, Params

THREADS = 2

# After each epoch, a function from images [N, H, W, C] to scores [N, classes].
Epochs = Iterator[Callable[[Any], Any]]


class Rival(NamedTuple):
    """A way to train, the library to import before the time is taken, and whether it trains on all
    images, because it was published so, or on as many as the recipe."""

    train: Callable[[Params, Arrays, int], Epochs]
    library: str
    all_images: bool = False


def free_tensorflow(threads: int = THREADS) -> None:
    """Let TensorFlow use that many threads per operation, the CPU's newest instructions and kernels
    whose results differ from run to run."""
    from mnist_cnn.model.backend import tf  # isort: skip # configures TensorFlow first
    from tensorflow.python.framework.config import disable_op_determinism

    disable_op_determinism()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    os.environ["ONEDNN_MAX_CPU_ISA"] = "DEFAULT"  # read when oneDNN is used for the first time


def train_here(params: Params, train: Arrays, validation: Arrays, seed: int) -> Epochs:
    """Use this project's own loop."""
    from mnist_cnn.model.backend import set_seed
    from mnist_cnn.model.network import build_network, predict_proba
    from mnist_cnn.training.fit import fit

    set_seed(seed)
    network = build_network(params.model, train.images.shape[1:], len(DIGITS))
    settings = params.train.model_copy(update={"seed": seed})
    for _ in fit(network, train, validation, settings):
        yield lambda images: predict_proba(network, images)


def train_with_keras(params: Params, train: Arrays, seed: int) -> Epochs:
    """Use Keras' `fit` with 50 steps per call."""
    from mnist_cnn.model.backend import keras, set_seed
    from mnist_cnn.model.network import build_network
    from mnist_cnn.training.fit import BETA_2, learning_rate_schedule

    free_tensorflow()
    set_seed(seed)
    settings = params.train
    network = build_network(params.model, train.images.shape[1:], len(DIGITS))
    steps = settings.epochs * (len(train.labels) // settings.batch_size)
    network.compile(
        keras.optimizers.Adam(learning_rate_schedule(settings, steps), beta_2=BETA_2),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=50,
    )
    whole = len(train.labels) // settings.batch_size * settings.batch_size
    for _ in range(settings.epochs):
        network.fit(
            train.images[:whole], train.labels[:whole], settings.batch_size, verbose=0, shuffle=True
        )
        yield lambda images: network.predict(images, batch_size=1000, verbose=0)


def train_with_pytorch(params: Params, train: Arrays, seed: int) -> Epochs:
    """Use PyTorch with the images in memory, the layout `channels_last` and a fused optimizer."""
    import torch

    torch.set_num_threads(THREADS)
    torch.manual_seed(seed)
    settings = params.train
    network = pytorch_network(params.model, train.images.shape[1:])
    network.to(memory_format=torch.channels_last)
    images, labels = pytorch_images(train.images), torch.from_numpy(train.labels)
    steps = settings.epochs * (len(labels) // settings.batch_size)
    warmup = max(1, round(settings.warmup * steps))
    rise = torch.linspace(0, 1, warmup + 1)[:-1]
    fall = (1 + torch.cos(torch.linspace(0, torch.pi, steps - warmup + 1))) / 2
    rates = iter((settings.learning_rate * torch.cat([rise, fall])).tolist())
    optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.95), eps=1e-7, fused=True)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    for _ in range(settings.epochs):
        network.train()
        order = torch.randperm(len(labels))
        for batch in order.split(settings.batch_size):
            if len(batch) < settings.batch_size:
                break
            optimizer.param_groups[0]["lr"] = next(rates)
            optimizer.zero_grad()
            loss(network(images[batch]), labels[batch]).backward()
            optimizer.step()
        yield lambda images: pytorch_scores(network, pytorch_images(images))


def train_mnist_fast(_: Params, train: Arrays, seed: int) -> Epochs:
    """The quickest public recipe for 99 %: https://github.com/tuomaso/train_mnist_fast. As there,
    the images are normalised, in memory and in their own order."""
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)
    torch.manual_seed(seed)
    network = nn.Sequential(
        *(nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, len(DIGITS))),
    )
    network.to(memory_format=torch.channels_last)

    def normalized(images: Any) -> Any:
        return (pytorch_images(images) - 0.1307) / 0.3081

    batches = normalized(train.images).split(256)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.7, 0.9), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.01, total_steps=len(batches), cycle_momentum=False
    )
    for images, labels in zip(batches, torch.from_numpy(train.labels).split(256), strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        schedule.step()
    yield lambda images: pytorch_scores(network, normalized(images))


def pytorch_network(params: ModelParams, image_shape: tuple[int, ...]) -> Any:
    """Build the network of `mnist_cnn.model.network.build_network` without its softmax."""
    import torch
    from torch import nn

    normalized = params.batch_normalization
    layers: list[nn.Module] = []
    channels = image_shape[2]
    for convolution in params.convolutions:
        pool = [nn.MaxPool2d(convolution.pool_size)] if convolution.pool_size else []
        bias = not (pool and normalized)
        strides = convolution.strides or 1
        layers.append(
            nn.Conv2d(channels, convolution.filters, convolution.kernel_size, strides, bias=bias)
        )
        channels = convolution.filters
        norm = [] if bias else [nn.BatchNorm2d(channels, eps=1e-3)]
        layers += [*pool, *norm, nn.ReLU()]
    layers += [nn.Flatten(), nn.Dropout(params.dropout)]
    image = torch.zeros(1, image_shape[2], *image_shape[:2])
    features = nn.Sequential(*layers).eval()(image).shape[1]
    layers.append(nn.Linear(features, params.dense_units, bias=not normalized))
    layers += [nn.BatchNorm1d(params.dense_units, eps=1e-3)] if normalized else []
    layers += [nn.ReLU(), nn.Linear(params.dense_units, len(DIGITS))]
    return nn.Sequential(*layers)


def pytorch_images(images: Any) -> Any:
    import torch

    first = torch.from_numpy(np.ascontiguousarray(np.asarray(images).transpose(0, 3, 1, 2)))
    return first.contiguous(memory_format=torch.channels_last)


def pytorch_scores(network: Any, images: Any) -> Any:
    import torch

    network.eval()
    with torch.no_grad():
        return torch.cat([network(batch) for batch in images.split(1000)]).numpy()


RIVALS = {
    "fast in Keras' fit": Rival(train_with_keras, "mnist_cnn.model.backend"),
    "fast in PyTorch": Rival(train_with_pytorch, "torch"),
    "train_mnist_fast": Rival(train_mnist_fast, "torch", all_images=True),
}
