"""Fit the network: image order, learning rate and epochs."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from mnist_cnn.data.arrays import Arrays
from mnist_cnn.errors import InputError
from mnist_cnn.model.backend import keras, tf
from mnist_cnn.model.network import predict_proba
from mnist_cnn.params import PARAMS_PATH, TrainParams
from mnist_cnn.training.checkpoint import Checkpoint
from mnist_cnn.training.distribution import broadcast_from_chief, local_replicas
from mnist_cnn.training.steps import RunSteps, TrainingStep

STEPS_PER_CALL, CALL_BYTES = 50, 10**8  # whichever is less

# Adam divides each step by the recent size of the gradients. In a short run they shrink quickly,
# but Keras' default of 0.999 remembers large ones for 1,000 steps, which is too long.
BETA_2 = 0.95


def fit(
    network: keras.Sequential,
    train: Arrays,
    validation: Arrays,
    params: TrainParams,
    checkpoint: Checkpoint | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> Iterator[dict[str, float]]:
    """Train `network` in place with Adam (Kingma and Ba 2014, https://arxiv.org/abs/1412.6980) on
    the cross-entropy with smoothed labels (Szegedy et al. 2015, https://arxiv.org/abs/1512.00567).

    After each epoch, yield its number, `loss` and `accuracy` on the augmented training images with
    dropout, and `val_loss` and `val_accuracy`, named as in Keras. Both losses use the labels
    without smoothing.

    Each batch is split into `shards` whose gradients TensorFlow computes in parallel, one per core.
    For a network of this size that is faster than parallelising each layer. One call runs many
    steps, because Keras' `fit` at its defaults spends about a third of its time between steps. A
    terminal gets a progress bar.

    With a `checkpoint`, an interrupted fit resumes from the last completed epoch and yields only
    the remaining ones. With a `strategy` for several workers or GPUs, each computes its part of the
    shards and all take the same steps, starting from the chief's state.

    Raises:
        InputError: the batch size isn't a multiple of the shards or exceeds the number of training
            images, the shards aren't a multiple of the workers or GPUs, or the loss stops being a
            finite number.
    """
    strategy = strategy or tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    _check_batch_size(params, len(train.labels), replicas)
    steps = params.steps_per_epoch or len(train.labels) // params.batch_size
    schedule = learning_rate_schedule(params, steps * params.epochs)
    optimizer = keras.optimizers.Adam(schedule, beta_2=BETA_2)
    optimizer.build(network.trainable_variables)
    local = local_replicas(strategy)
    run_steps = TrainingStep(
        network, optimizer, params, strategy, local, _class_weights(params, train)
    ).compile()
    variables = [*network.variables, *optimizer.variables]
    history = checkpoint.restore(variables) if checkpoint else []
    broadcast_from_chief(strategy, variables)
    for epoch in range(int(optimizer.iterations) // steps, params.epochs):
        order = _image_order(len(train.labels), params, epoch * steps, steps)
        batches = order.reshape(steps, replicas, -1)
        disable = None if 0 in local else True  # only the chief shows a progress bar
        with tqdm(total=steps, desc=f"epoch {epoch + 1}", leave=False, disable=disable) as bar:
            results = _run_epoch(run_steps, train, batches[:, local], params.batch_size, bar)
        if not np.isfinite(results["loss"]):
            raise InputError(
                f"the training loss became {results['loss']} in epoch {epoch + 1}: expected a "
                f"finite number; lower train.learning_rate in {PARAMS_PATH}"
            )
        results = {"epoch": epoch + 1} | results | _evaluate(network, validation)
        history.append(results)
        if checkpoint:
            checkpoint.save(variables, history)
        yield results


def learning_rate_schedule(
    params: TrainParams, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a linear warm-up from 0 to `learning_rate`, then cosine decay to `final_learning_rate`
    (Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983), over `steps` steps."""
    warmup_steps = min(round(params.warmup * steps), steps - 1)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=params.learning_rate,
        warmup_steps=warmup_steps,
        decay_steps=steps - warmup_steps,
        alpha=params.final_learning_rate / params.learning_rate,
    )


def _check_batch_size(params: TrainParams, images: int, replicas: int) -> None:
    if params.batch_size % params.shards:
        raise InputError(
            f"{PARAMS_PATH}: train.shards is {params.shards}: expected a divisor of "
            f"train.batch_size, which is {params.batch_size}"
        )
    if params.shards % replicas:
        raise InputError(
            f"{PARAMS_PATH}: train.shards is {params.shards}: expected a multiple of {replicas}, "
            "the number of workers or GPUs"
        )
    if params.batch_size > images:
        raise InputError(
            f"{PARAMS_PATH}: train.batch_size is {params.batch_size}: "
            f"expected at most {images}, the number of training images"
        )


def _class_weights(params: TrainParams, train: Arrays) -> npt.NDArray[np.float32] | None:
    """Return weights that make all classes count alike (King and Zeng 2001,
    https://doi.org/10.1093/oxfordjournals.pan.a004868), if `class_weight` asks for them."""
    if params.class_weight is None:
        return None
    counts = np.bincount(train.labels, minlength=len(train.classes))
    return (len(train.labels) / (len(counts) * counts)).astype(np.float32)


def _image_order(images: int, params: TrainParams, first: int, steps: int) -> npt.NDArray[np.int32]:
    """Return the indices of the images of `steps` steps from step `first` on: int32 [steps *
    batch_size]. Each pass over the images has another order."""
    per_pass = images // params.batch_size
    passes = range(first // per_pass, (first + steps - 1) // per_pass + 1)
    orders = [
        tf.random.experimental.stateless_shuffle(tf.range(images), seed=(params.seed, number))
        for number in passes
    ]
    indices = np.concatenate([order[: per_pass * params.batch_size] for order in orders])
    start = (first % per_pass) * params.batch_size
    return indices[start : start + steps * params.batch_size]


def _run_epoch(
    run_steps: RunSteps,
    train: Arrays,
    batches: npt.NDArray[np.integer],
    batch_size: int,
    bar: "tqdm[Any]",
) -> dict[str, float]:
    """Train on batches of images, given as indices [steps, replicas, n] for this process's
    replicas. The results cover all replicas: `batch_size` images per step."""
    loss, correct = 0.0, 0
    image_bytes = math.prod(train.images.shape[1:]) * train.images.dtype.itemsize
    steps = min(STEPS_PER_CALL, max(1, CALL_BYTES // (batches[0].size * image_bytes)))
    for first in range(0, len(batches), steps):
        numbers = batches[first : first + steps]
        loss_sum, correct_sum = run_steps(train.images[numbers], train.labels[numbers])
        loss += float(loss_sum)
        correct += int(correct_sum)
        bar.update(len(numbers))
    return {"loss": loss / len(batches), "accuracy": correct / (len(batches) * batch_size)}


def _evaluate(network: keras.Sequential, validation: Arrays) -> dict[str, float]:
    probabilities = predict_proba(network, validation.images)
    losses = keras.losses.sparse_categorical_crossentropy(validation.labels, probabilities)
    accuracy = (probabilities.argmax(axis=1) == validation.labels).mean()
    return {"val_loss": float(np.mean(losses)), "val_accuracy": float(accuracy)}
