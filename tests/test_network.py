import json
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from mnist_cnn.arrays import Arrays
from mnist_cnn.errors import InputError
from mnist_cnn.network import build_network, load_network, predict, save_network
from tests.conftest import EVERY_BLOCK, PARAMS, ROOT, succeed

DEFAULT = PARAMS.model


def test_the_default_network_is_the_given_one() -> None:
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


def test_predictions_are_probabilities_whatever_the_batch_size(arrays: Arrays) -> None:
    network = build_network(DEFAULT, (28, 28, 1), 10)
    probabilities = predict(network, arrays.images, batch_size=7)
    assert probabilities.shape == (20, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(
        probabilities, predict(network, arrays.images, batch_size=20), rtol=1e-4
    )


def test_plain_keras_loads_a_saved_network(tmp_path: Path, arrays: Arrays) -> None:
    network = build_network(DEFAULT, (28, 28, 1), 10)
    save_network(network, tmp_path / "model.keras")
    plain = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        predict(plain, arrays.images, 20), predict(network, arrays.images, 20)
    )


def test_a_saved_network_holds_no_time_and_no_address(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    save_network(build_network(DEFAULT, (28, 28, 1), 10), path)
    with zipfile.ZipFile(path) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert list(json.loads(archive.read("metadata.json"))) == ["keras_version"]
        config = json.loads(archive.read("config.json"))
    assert config["config"]["dtype"]["shared_object_id"] < 100


def test_a_missing_or_damaged_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with pytest.raises(InputError, match=r"model.keras is not .* \(there is no such file\)"):
        load_network(path)
    save_network(build_network(DEFAULT, (28, 28, 1), 10), path)
    whole = path.read_bytes()
    for content in (b"", b"not a model", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"model.keras is not .* \(it is no zip archive"):
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
        with pytest.raises(InputError, match="it is no sequential network with an input"):
            load_network(tmp_path / "model.keras")


def test_a_model_that_holds_code_is_refused(tmp_path: Path) -> None:
    code = keras.layers.Lambda(lambda x: x, output_shape=(2,))
    keras.Sequential([keras.Input((2,)), code]).save(tmp_path / "model.keras")
    with pytest.raises(InputError, match=r"model.keras is not a usable Keras model \(.*`Lambda`"):
        load_network(tmp_path / "model.keras")


def test_keras_is_imported_without_what_it_can_do_without() -> None:
    code = """if True:
        import sys
        import mnist_cnn.network
        assert not {"matplotlib", "sklearn"} & set(sys.modules)
        import matplotlib.figure, sklearn.metrics
        matplotlib.figure.Figure, sklearn.metrics.classification_report
    """
    succeed(ROOT, sys.executable, "-c", code)


def test_packages_imported_before_keras_stay() -> None:
    code = """if True:
        import matplotlib as before
        import mnist_cnn.network
        import matplotlib as after
        assert before is after
    """
    succeed(ROOT, sys.executable, "-c", code)
