"""The fit: data order, augmentation, schedule, steps and the curves they leave."""

import math
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from tqdm import tqdm

from mnist_cnn.arrays import Arrays
from mnist_cnn.checkpoint import Checkpoint
from mnist_cnn.distribution import replica_numbers, run_alike, take_from_chief
from mnist_cnn.errors import InputError
from mnist_cnn.network import predict
from mnist_cnn.params import PARAMS_PATH, TrainParams

STEPS_PER_CALL = 50

# Adam divides each step by the size that gradients had lately. In a short training they shrink
# quickly, and Keras' 0.999 remembers them as large for 1,000 steps: the network learns too slowly.
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
    the cross-entropy with smoothed labels (Szegedy et al. 2015,
    https://arxiv.org/abs/1512.00567); after each epoch yield its number, loss and accuracy on
    the augmented training images with dropout, and `val_loss` and `val_accuracy`, named as by
    Keras. Both losses are those of the labels as they are.

    Each batch is split into `shards`, whose gradients TensorFlow computes at the same time, each on
    a core of its own: at this size that is faster than to share out the work of each layer. One
    call runs many steps: Keras' own `fit` spends about a third of its time between them. A
    progress bar shows on a terminal. With a `checkpoint`, an interrupted fit goes on after the last
    epoch that it holds, and yields those before it again.

    With the `strategy` of several workers or GPUs, each computes its part of the shards, and all
    take the same steps, from where the chief stands; what the chief yields counts.

    Raises:
        InputError: the batch size is no multiple of the shards or exceeds the number of training
            images, the shards are no multiple of the workers or GPUs, or the loss is not a number
            any more.
    """
    strategy = strategy or tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
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
    steps = len(train.labels) // params.batch_size
    if steps == 0:
        raise InputError(
            f"{PARAMS_PATH}: train.batch_size is {params.batch_size}: "
            f"expected at most {len(train.labels)}, the number of training images"
        )
    schedule = learning_rate_schedule(params, steps * params.epochs)
    optimizer = keras.optimizers.Adam(schedule, beta_2=BETA_2)
    optimizer.build(network.trainable_variables)
    own = replica_numbers(strategy)
    run_steps = _step_runner(network, optimizer, params, strategy, own)
    variables = [*network.variables, *optimizer.variables]
    epochs = checkpoint.restore(variables) if checkpoint else []
    take_from_chief(strategy, variables)
    yield from epochs
    for epoch in range(int(optimizer.iterations) // steps, params.epochs):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(train.labels)), seed=(params.seed, epoch)
        )
        batches = order.numpy()[: steps * params.batch_size].reshape(steps, replicas, -1)
        loss, correct = 0.0, 0
        disable = None if own[0] == 0 else True
        with tqdm(total=steps, desc=f"epoch {epoch + 1}", leave=False, disable=disable) as bar:
            for first in range(0, steps, STEPS_PER_CALL):
                numbers = batches[first : first + STEPS_PER_CALL, own]
                loss_sum, correct_sum = run_steps(train.images[numbers], train.labels[numbers])
                loss += float(loss_sum)
                correct += int(correct_sum)
                bar.update(min(STEPS_PER_CALL, steps - first))
        if not np.isfinite(loss):
            raise InputError(
                f"the training loss became {loss} in epoch {epoch + 1}: "
                f"expected a number; lower train.learning_rate in {PARAMS_PATH}"
            )
        val_loss, val_accuracy = _evaluate(network, validation)
        epochs.append(
            {
                "epoch": epoch + 1,
                "loss": loss / steps,
                "accuracy": correct / (steps * params.batch_size),
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
            }
        )
        if checkpoint:
            checkpoint.save(variables, epochs)
        yield epochs[-1]


def calibrate(network: keras.Sequential, validation: Arrays) -> float:
    """Divide the scores before the softmax by a temperature, in place, so that the probabilities
    are as likely as they say; return it.

    It is the one from 0.1 to 10 with the least cross-entropy on `validation` (Guo et al. 2017,
    https://arxiv.org/abs/1706.04599). No answer changes, and no step is added to the network: the
    weights of its last layer are divided.
    """
    probabilities = predict(network, validation.images, batch_size=1000)
    scores = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny), dtype=np.float64)

    def loss(temperature: float) -> float:
        log_probabilities = log_softmax(scores / temperature, axis=1)
        chosen = np.take_along_axis(log_probabilities, validation.labels[:, np.newaxis], axis=1)
        return -float(chosen.mean())

    temperature = round(float(minimize_scalar(loss, bounds=(0.1, 10), method="bounded").x), 4)
    output = network.layers[-1]
    output.set_weights([weights / temperature for weights in output.get_weights()])
    return temperature


def learning_rate_schedule(
    params: TrainParams, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up from 0 to `learning_rate`, then half a cosine down to `final_learning_rate`
    (Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983), over `steps` steps."""
    warmup_steps = min(round(params.warmup * steps), steps - 1)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=params.learning_rate,
        warmup_steps=warmup_steps,
        decay_steps=steps - warmup_steps,
        alpha=params.final_learning_rate / params.learning_rate,
    )


def augment(images: tf.Tensor, params: TrainParams, seed: tf.Tensor) -> tf.Tensor:
    """Rotate, zoom, shear and shift each image of a batch float32 [N, H, W, C] about its centre, by
    amounts of its own, uniform within plus and minus the four parameters.

    Values in between pixels are interpolated linearly; what comes in at the edge is 0. The amounts
    follow from `seed`, int32 [2], alone.
    """
    count, height, width = images.shape[:3]
    zoom, shift = params.zoom, params.translation
    limits = np.radians(params.rotation), params.shear, zoom, zoom, shift, shift
    shares = tf.random.stateless_uniform((6, count), seed, minval=-1, maxval=1)
    amounts = shares * tf.constant(limits, tf.float32, shape=(6, 1))
    angle, shear, zoom_x, zoom_y, shift_x, shift_y = tf.unstack(amounts)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # Where pixel (x, y) of the result comes from: (a x + b y + c, d x + e y + f).
    a, b = cos * (1 + zoom_x), (cos * shear - sin) * (1 + zoom_y)
    d, e = sin * (1 + zoom_x), (sin * shear + cos) * (1 + zoom_y)
    x, y = (width - 1) / 2, (height - 1) / 2
    c, f = x - a * x - b * y + shift_x, y - d * x - e * y + shift_y
    zeros = tf.zeros(count)  # no perspective
    transform = tf.stack([a, b, c, d, e, f, zeros, zeros], axis=1)
    return keras.ops.image.affine_transform(images, transform)


def dropout(values: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Set a share `rate`, to the nearest 256th, of float32 `values` of a known shape to 0, drawn by
    `seed`, int32 [2], alone, and scale the others up so that their expected sum stays (Srivastava
    et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html).

    A random byte decides on each: Keras' layer draws four of them, which takes a fifth of a step.
    """
    size = math.prod(values.shape)
    words = tf.random.stateless_uniform([-(-size // 4)], seed, None, None, tf.uint32)
    draws = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size], values.shape)
    dropped = min(round(256 * rate), 255)
    return tf.where(draws < dropped, 0.0, values * (256 / (256 - dropped)))


def _step_runner(
    network: keras.Sequential,
    optimizer: keras.optimizers.Optimizer,
    params: TrainParams,
    strategy: tf.distribute.Strategy,
    own: list[int],
) -> Callable[[npt.NDArray[np.float32], npt.NDArray[np.int64]], tuple[tf.Tensor, tf.Tensor]]:
    classes, shards = network.output_shape[1], params.shards
    own_shards = shards // strategy.num_replicas_in_sync
    own_images = params.batch_size // strategy.num_replicas_in_sync
    augmented = params.rotation or params.zoom or params.shear or params.translation

    def backpropagate(
        images: tf.Tensor, labels: tf.Tensor, draw: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """A shard's gradients, the mean of its losses and the number of its correct answers."""
        if augmented:
            images = augment(images, params, tf.stack([params.seed, 2 * draw]))
        weights = network.trainable_variables
        with tf.GradientTape() as tape:
            probabilities = images
            for layer in network.layers:
                if isinstance(layer, keras.layers.Dropout):
                    seed = tf.stack([params.seed, 2 * draw + 1])
                    probabilities = dropout(probabilities, layer.rate, seed)
                else:
                    probabilities = layer(probabilities, training=True)
            # Not Keras' own mean, which it divides by the number of workers.
            smoothed = tf.reduce_mean(
                keras.losses.categorical_crossentropy(
                    tf.one_hot(labels, classes),
                    probabilities,
                    label_smoothing=params.label_smoothing,
                )
            )
        loss = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
        correct = tf.math.count_nonzero(tf.argmax(probabilities, 1) == labels, dtype=tf.float32)
        return tape.gradient(smoothed, weights), tf.reduce_mean(loss), correct

    def backpropagate_batch(
        images: tf.Tensor, labels: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """The gradients, losses and correct answers, summed over all shards."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        images, labels = images[replica - own[0]], labels[replica - own[0]]
        parts = zip(tf.split(images, own_shards), tf.split(labels, own_shards), strict=True)
        first = tf.cast(optimizer.iterations, tf.int32) * shards + replica * own_shards
        done = [backpropagate(*part, first + i) for i, part in enumerate(parts)]
        gradients, losses, corrects = zip(*done, strict=True)
        sums = [tf.add_n(each) for each in zip(*gradients, strict=True)]
        loss, correct, *sums = all_reduce([tf.add_n(losses), tf.add_n(corrects), *sums])
        return sums, loss, correct

    # XLA trains this network 15 times slower on a CPU.
    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec((None, len(own), own_images, *network.input_shape[1:]), tf.float32),
            tf.TensorSpec((None, len(own), own_images), tf.int64),
        ],
        jit_compile=False,
    )
    def run_steps(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One step per batch; returns the sums of losses and correct answers."""
        loss_sum, correct_sum = tf.constant(0.0), tf.constant(0.0)
        for step in tf.range(tf.shape(labels)[0]):
            sums, loss, correct = run_alike(
                strategy, backpropagate_batch, images[step], labels[step]
            )
            optimizer.apply([each / shards for each in sums], network.trainable_variables)
            loss_sum += loss / shards
            correct_sum += correct
        # Each worker's batch normalisation saw its own shards: all go on with the mean.
        if statistics := network.non_trainable_weights:
            totals = run_alike(strategy, all_reduce, statistics)
            for variable, total in zip(statistics, totals, strict=True):
                variable.assign(total / strategy.num_replicas_in_sync)
        return loss_sum, correct_sum

    def all_reduce(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        values = [tf.identity(value) for value in values]  # computed by this replica
        sums: list[tf.Tensor] = tf.distribute.get_replica_context().all_reduce("SUM", values)
        return sums

    return run_steps  # type: ignore[no-any-return]


def _evaluate(network: keras.Sequential, validation: Arrays) -> tuple[float, float]:
    probabilities = predict(network, validation.images, batch_size=1000)
    loss = keras.losses.sparse_categorical_crossentropy(validation.labels, probabilities)
    accuracy = (probabilities.argmax(axis=1) == validation.labels).mean()
    return float(np.mean(loss)), float(accuracy)
