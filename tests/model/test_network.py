"""The network that the parameters describe, its predictions and its `.keras` file."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mnist_cnn.data.arrays import Arrays
from mnist_cnn.data.images import prediction_batch_size
from mnist_cnn.errors import InputError
from mnist_cnn.model.backend import keras
from mnist_cnn.model.formats.keras import load_network, write
from mnist_cnn.model.network import build_network, predict_proba
from tests.helpers import EVERY_BLOCK, PARAMS

DEFAULT = PARAMS.model


def test_the_default_network_has_the_given_layers() -> None:
    network = build_network(DEFAULT, (28, 28, 1), 10)
    assert [type(layer).__name__ for layer in network.layers] == [
        "Conv2D",
        "MaxPooling2D",
        "Flatten",
        "Dropout",
        "Dense",
        "Dense",
    ]
    assert network.count_params() == 693_962
    convolution, _, _, dropout, hidden, output = network.layers
    assert (convolution.filters, convolution.kernel_size) == (32, (3, 3))
    assert dropout.rate == 0.2
    assert [layer.activation.__name__ for layer in (convolution, hidden, output)] == [
        "relu",
        "relu",
        "softmax",
    ]


def test_blocks_with_batch_normalization() -> None:
    network = build_network(EVERY_BLOCK, (28, 28, 3), 7)
    normalized = ["BatchNormalization", "ReLU"]
    assert [type(layer).__name__ for layer in network.layers] == [
        *["Conv2D", "Conv2D", "MaxPooling2D", *normalized],
        *["Flatten", "Dropout", "Dense", *normalized, "Dense"],
    ]
    assert network.output_shape == (None, 7)
    stem, before_pooling, *_ = network.layers
    assert stem.use_bias
    assert stem.activation.__name__ == "relu"
    assert not before_pooling.use_bias
    assert before_pooling.activation.__name__ == "linear"


def test_global_average_pooling_needs_fewer_weights() -> None:
    averaging = DEFAULT.model_copy(update={"global_average_pooling": True})
    network = build_network(averaging, (28, 28, 1), 10)
    assert [type(layer).__name__ for layer in network.layers[1:3]] == [
        "MaxPooling2D",
        "GlobalAveragePooling2D",
    ]
    assert network.count_params() == 320 + 33 * 128 + 129 * 10


def test_large_images_are_predicted_in_small_batches() -> None:
    assert prediction_batch_size((28, 28, 1)) == 1000
    assert prediction_batch_size((224, 224, 3)) == 13
    assert prediction_batch_size((5000, 5000, 3)) == 1


def test_predictions_are_probabilities_in_any_number_of_batches(arrays: Arrays) -> None:
    network = build_network(DEFAULT, (28, 28, 1), 10)
    count = 2 * prediction_batch_size((28, 28, 1)) + 1
    images = np.resize(arrays.images, (count, 28, 28, 1))
    probabilities = predict_proba(network, images)
    assert probabilities.shape == (count, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    expected = np.resize(predict_proba(network, arrays.images), (count, 10))
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4)


def test_plain_keras_loads_a_saved_network(tmp_path: Path, arrays: Arrays) -> None:
    network = build_network(DEFAULT, (28, 28, 1), 10)
    write(network, tmp_path / "model.keras")
    plain = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        predict_proba(plain, arrays.images), predict_proba(network, arrays.images)
    )


def test_a_keras_file_has_no_times_or_memory_addresses(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    write(build_network(DEFAULT, (28, 28, 1), 10), path)
    with zipfile.ZipFile(path) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert list(json.loads(archive.read("metadata.json"))) == ["keras_version"]
        config = json.loads(archive.read("config.json"))
    assert config["config"]["dtype"]["shared_object_id"] < 100


def test_a_missing_or_damaged_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with pytest.raises(InputError, match=r"model.keras is not .* \(it does not exist\)"):
        load_network(path)
    write(build_network(DEFAULT, (28, 28, 1), 10), path)
    whole = path.read_bytes()
    for content in (b"", b"not a model", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"model.keras is not .* \(it is not a zip archive"):
            load_network(path)
    path.write_bytes(whole.replace(b"Conv2D", b"Konv2D"))
    with pytest.raises(InputError, match=r"model.keras is not .* \(Bad CRC-32"):
        load_network(path)


def test_a_model_without_one_input_and_output_is_refused(tmp_path: Path) -> None:
    image = keras.Input((28, 28, 1))
    dense = keras.layers.Dense(10)
    for model in (
        keras.Sequential([dense]),
        keras.Model(image, {"a": dense(keras.layers.Flatten()(image))}),
    ):
        model.save(tmp_path / "model.keras")
        with pytest.raises(InputError, match="it is not a sequential network with an input"):
            load_network(tmp_path / "model.keras")


def test_a_model_with_code_is_refused(tmp_path: Path) -> None:
    code = keras.layers.Lambda(lambda x: x, output_shape=(2,))
    keras.Sequential([keras.Input((2,)), code]).save(tmp_path / "model.keras")
    with pytest.raises(InputError, match=r"model.keras is not a usable Keras model \(.*`Lambda`"):
        load_network(tmp_path / "model.keras")
