"""Run many training steps in one call, each split into shards that are computed in parallel."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnist_cnn.model.backend import keras, tf
from mnist_cnn.params import TrainParams
from mnist_cnn.training.augmentation import augment, dropout
from mnist_cnn.training.distribution import run_on_replicas, sum_over_replicas

RunSteps = Callable[[npt.NDArray[np.float32], npt.NDArray[np.int64]], tuple[tf.Tensor, tf.Tensor]]
Results = tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]  # gradients, loss, correct answers


@dataclass(frozen=True, eq=False)
class TrainingStep:
    """A step of `optimizer` on a batch.

    The batch is divided among the replicas (workers or GPUs), and each replica's part into shards.
    `local_replicas` are the numbers of this process's replicas. `class_weights`, float32 [classes],
    multiply the loss of each class.
    """

    network: keras.Sequential
    optimizer: keras.optimizers.Optimizer
    params: TrainParams
    strategy: tf.distribute.Strategy
    local_replicas: list[int]
    class_weights: npt.NDArray[np.float32] | None

    def compile(self) -> RunSteps:
        """Return a function that takes one step per batch. It maps images float32 [steps, local
        replicas, n, H, W, C] and labels int64 [steps, local replicas, n] to the sum of the batches'
        mean losses and the number of correct answers."""
        images = self.params.batch_size // self.strategy.num_replicas_in_sync
        batch = (None, len(self.local_replicas), images)
        return tf.function(  # type: ignore[no-any-return]
            self._run,
            input_signature=[
                tf.TensorSpec((*batch, *self.network.input_shape[1:]), tf.float32),
                tf.TensorSpec(batch, tf.int64),
            ],
            jit_compile=False,  # XLA trains this network 15 times slower on a CPU
        )

    def _run(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shards = self.params.shards
        loss_sum, correct_sum = tf.constant(0.0), tf.constant(0.0)
        for step in tf.range(tf.shape(labels)[0]):
            gradients, loss, correct = run_on_replicas(
                self.strategy, self._replica_results, images[step], labels[step]
            )
            means = [gradient / shards for gradient in gradients]
            self.optimizer.apply(means, self.network.trainable_variables)
            loss_sum += loss / shards
            correct_sum += correct
        self._average_statistics()
        return loss_sum, correct_sum

    # AutoGraph would take 0.3 s and find no loops or conditions on tensors to convert.
    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def _replica_results(self, images: tf.Tensor, labels: tf.Tensor) -> Results:
        """Compute this replica's shards; return the sums over the shards of all replicas."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        local = replica - self.local_replicas[0]
        count = self.params.shards // self.strategy.num_replicas_in_sync
        shards = zip(tf.split(images[local], count), tf.split(labels[local], count), strict=True)
        step = tf.cast(self.optimizer.iterations, tf.int32)
        first = step * self.params.shards + replica * count
        results = [self._shard_results(*shard, first + i) for i, shard in enumerate(shards)]
        gradients, losses, corrects = zip(*results, strict=True)
        sums = [tf.add_n(each) for each in zip(*gradients, strict=True)]
        loss, correct, *sums = sum_over_replicas([tf.add_n(losses), tf.add_n(corrects), *sums])
        return sums, loss, correct

    def _shard_results(self, images: tf.Tensor, labels: tf.Tensor, shard: tf.Tensor) -> Results:
        """Compute a shard's gradients, mean loss and number of correct answers. That loss uses the
        labels without smoothing or weights. The number of the shard, counted from the first
        training step, seeds its augmentation and dropout."""
        params = self.params
        images = augment(images, params, tf.stack([params.seed, 2 * shard]))
        with tf.GradientTape() as tape:
            probabilities = self._forward(images, tf.stack([params.seed, 2 * shard + 1]))
            one_hot = tf.one_hot(labels, self.network.output_shape[1])
            losses = keras.losses.categorical_crossentropy(
                one_hot, probabilities, label_smoothing=params.label_smoothing
            )
            if self.class_weights is not None:
                losses *= tf.gather(self.class_weights, labels)
            # Keras' own mean, `keras.losses.CategoricalCrossentropy`, would also divide by the
            # number of workers.
            smoothed_loss = tf.reduce_mean(losses)
        gradients = tape.gradient(smoothed_loss, self.network.trainable_variables)
        loss = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
        correct = tf.math.count_nonzero(tf.argmax(probabilities, 1) == labels, dtype=tf.float32)
        return gradients, tf.reduce_mean(loss), correct

    def _forward(self, images: tf.Tensor, dropout_seed: tf.Tensor) -> tf.Tensor:
        """Compute the network's probabilities in training, with a faster dropout than Keras'."""
        values = images
        for layer in self.network.layers:
            if isinstance(layer, keras.layers.Dropout):
                values = dropout(values, layer.rate, dropout_seed)
            else:
                values = layer(values, training=True)
        return values

    def _average_statistics(self) -> None:
        """Average the moving statistics of batch normalisation over all replicas, because each has
        seen only its own shards."""
        if statistics := self.network.non_trainable_weights:
            sums = run_on_replicas(self.strategy, sum_over_replicas, statistics)
            for variable, total in zip(statistics, sums, strict=True):
                variable.assign(total / self.strategy.num_replicas_in_sync)
