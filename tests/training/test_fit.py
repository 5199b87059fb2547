"""Fitting: the network learns, the seed decides everything random, wrong input is refused."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mnist_cnn.data.arrays import Arrays
from mnist_cnn.errors import InputError
from mnist_cnn.model.backend import keras, set_seed
from mnist_cnn.model.formats.keras import write
from mnist_cnn.model.network import build_network, predict_proba
from mnist_cnn.params import ModelParams, TrainParams
from mnist_cnn.training.fit import fit, learning_rate_schedule
from tests.helpers import PARAMS


def train_params(**changes: object) -> TrainParams:
    return TrainParams.model_validate(
        PARAMS.train.model_dump() | {"batch_size": 4, "epochs": 2, "shards": 1} | changes
    )


def new_network(model: ModelParams = PARAMS.model, seed: int = 42) -> keras.Sequential:
    set_seed(seed)
    return build_network(model, (28, 28, 1), 10)


class RecordedImages:
    """Images that record which of them are used, in order."""

    def __init__(self, images: npt.NDArray[np.float32]) -> None:
        self.images = images
        self.shape, self.dtype = images.shape, images.dtype
        self.order: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> npt.NDArray[np.float32]:
        self.order += index.ravel().tolist()
        return self.images[index]  # type: ignore[no-any-return]

    def __array__(self, *_: object, **__: object) -> npt.NDArray[np.float32]:
        return self.images


def test_the_seed_decides_the_bytes_and_the_order_of_the_images(
    tmp_path: Path, arrays: Arrays
) -> None:
    models, curves, orders = [], [], []
    for seed in (1, 1, 2):
        images = RecordedImages(np.asarray(arrays.images))
        network = new_network(seed=seed)
        train = Arrays(images, arrays.labels)
        curves.append(list(fit(network, train, arrays, train_params(seed=seed, shards=2))))
        write(network, tmp_path / "model.keras")
        models.append((tmp_path / "model.keras").read_bytes())
        orders.append((images.order[:20], images.order[20:]))  # of two epochs
    assert models[0] == models[1] != models[2]
    assert curves[0] == curves[1] != curves[2]
    assert orders[0] == orders[1]
    different = [*orders[1], *orders[2], list(range(20))]
    assert len(set(map(tuple, different))) == 5
    for order in different:
        assert sorted(order) == list(range(20))


def test_an_epoch_may_have_any_number_of_steps(arrays: Arrays) -> None:
    images = RecordedImages(np.asarray(arrays.images))
    params = train_params(steps_per_epoch=7, epochs=3)  # 5 steps are one pass
    epochs = list(fit(new_network(), Arrays(images, arrays.labels), arrays, params))
    assert len(epochs) == 3
    assert len(images.order) == 3 * 7 * 4
    passes = [images.order[start : start + 20] for start in range(0, 80, 20)]
    assert [sorted(order) for order in passes] == [list(range(20))] * 4
    assert len(set(map(tuple, passes))) == 4


def test_balanced_classes_weigh_the_same(arrays: Arrays) -> None:
    """Nothing tells these images apart, so the network learns how much each class weighs."""
    labels = np.repeat([0, 1], [15, 5])
    train = Arrays(np.zeros_like(arrays.images), labels, np.array(["many", "few"]))
    shares = []
    for class_weight in (None, "balanced"):
        set_seed(1)
        network = build_network(PARAMS.model, (28, 28, 1), 2)
        params = train_params(
            class_weight=class_weight, epochs=60, batch_size=20, learning_rate=0.05
        )
        list(fit(network, train, train, params))
        shares.append(float(predict_proba(network, train.images)[0, 1]))
    assert shares == pytest.approx([0.25, 0.5], abs=0.02)


def test_fit_learns_and_label_smoothing_lowers_the_confidence(arrays: Arrays) -> None:
    confidence = {}
    for smoothing in (0.0, 0.5):
        changes = {"epochs": 40, "translation": 0, "learning_rate": 0.001}
        network = new_network()
        params = train_params(label_smoothing=smoothing, **changes)
        epochs = list(fit(network, arrays, arrays, params))
        assert [epoch["epoch"] for epoch in epochs] == list(range(1, 41))
        assert list(epochs[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
        assert 0 <= epochs[0]["accuracy"] <= 1
        assert epochs[-1]["loss"] < 1  # of the labels without smoothing
        assert epochs[-1]["val_loss"] < 0.5 * epochs[0]["val_loss"]
        assert epochs[-1]["val_accuracy"] == 1
        confidence[smoothing] = predict_proba(network, arrays.images).max(axis=1).mean()
    assert confidence[0.0] > 0.8
    assert confidence[0.5] == pytest.approx(0.55, abs=0.05)


def test_an_incomplete_batch_is_left_out(arrays: Arrays) -> None:
    for epoch in fit(new_network(), arrays, arrays, train_params(batch_size=19)):
        correct = epoch["accuracy"] * 19
        assert correct == pytest.approx(round(correct))


def test_shards_give_the_gradient_of_their_batch(arrays: Arrays) -> None:
    trained = []
    for shards in (1, 4):
        network = new_network(PARAMS.model.model_copy(update={"dropout": 0.0}))
        list(fit(network, arrays, arrays, train_params(shards=shards, translation=0, epochs=1)))
        trained.append(network.get_weights())
    for whole, sharded in zip(*trained, strict=True):
        np.testing.assert_allclose(sharded, whole, atol=1e-3)


def test_the_network_is_trained_with_its_dropout(arrays: Arrays) -> None:
    losses = []
    for rate in (0.0, 0.2):
        network = new_network(PARAMS.model.model_copy(update={"dropout": rate}))
        losses.append(next(fit(network, arrays, arrays, train_params()))["loss"])
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"batch_size": 22}, r"train.batch_size is 22: expected at most 20"),
        ({"shards": 3}, r"train.shards is 3: expected a divisor of .* is 4"),
    ],
)
def test_impossible_batches_are_refused(
    arrays: Arrays, changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        next(fit(new_network(), arrays, arrays, train_params(**changes)))


def test_a_loss_that_is_not_finite_stops_the_fit(arrays: Arrays) -> None:
    network = new_network()
    network.set_weights([np.full_like(weights, np.nan) for weights in network.get_weights()])
    with pytest.raises(InputError, match=r"loss became nan in epoch 1: .* lower train.learning"):
        next(fit(network, arrays, arrays, train_params()))


def test_the_learning_rate_rises_and_falls() -> None:
    params = train_params(learning_rate=0.01, final_learning_rate=0.001, warmup=0.2)
    schedule = learning_rate_schedule(params, steps=100)
    rates = [float(schedule(step)) for step in range(101)]
    assert rates[0] == 0
    assert rates[10] == pytest.approx(0.005)
    assert rates[20] == pytest.approx(0.01)
    assert rates[60] == pytest.approx(0.0055)
    assert rates[100] == pytest.approx(0.001)
    assert all(earlier > later for earlier, later in pairwise(rates[20:]))


def test_a_constant_learning_rate_is_constant() -> None:
    params = train_params(learning_rate=0.001, final_learning_rate=0.001, warmup=0)
    schedule = learning_rate_schedule(params, steps=10)
    assert [float(schedule(step)) for step in range(10)] == pytest.approx([0.001] * 10)


def test_a_long_warmup_leaves_one_step_to_fall() -> None:
    for steps in (1, 100):
        schedule = learning_rate_schedule(train_params(warmup=0.9999), steps)
        assert float(schedule(steps)) == 0
