"""Exports give the network's answers and reproducible bytes, and wrong ones are refused."""

import math
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from mnist_cnn.data.arrays import write_arrays
from mnist_cnn.data.images import normalize
from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.errors import InputError, suppress_stderr
from mnist_cnn.evaluation.scores import compare_predictions
from mnist_cnn.files import sha256
from mnist_cnn.model.backend import keras, set_seed
from mnist_cnn.model.formats import CHECKSUMS, FORMATS, check_conversion, load_model
from mnist_cnn.model.formats.base import Metadata
from mnist_cnn.model.network import build_network, predict_proba
from mnist_cnn.params import ModelParams
from stages.export import TOLERANCES, main
from tests.helpers import EVERY_BLOCK, PARAMS, ROOT, succeed

Weights = npt.NDArray[np.float32]

METADATA = Metadata(
    classes=["ä", *"123456789"],
    input="picture",
    resizing="crop",
    image_size=[28, 28],
    color_mode="grayscale",
    temperature=1.5,
)
SAMPLES = normalize(load_mnist().test_images[:72])


def random_network(model: ModelParams = EVERY_BLOCK) -> keras.Sequential:
    """Fresh weights are constant in some layers, which would simplify the exported graphs."""
    set_seed(0)
    noise = np.random.default_rng(0).standard_normal
    network = build_network(model, (28, 28, 1), 10)
    network.set_weights([each + 0.1 * noise(each.shape) for each in network.get_weights()])
    return network


def export(network: keras.Sequential, folder: Path) -> None:
    folder.mkdir()
    for path, write, _ in FORMATS.values():
        with suppress_stderr():
            write(network, folder / path.name, SAMPLES, METADATA)


def checksums(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): sha256(file) for file in files}


EXPORT = """
import sys
import zipfile
from pathlib import Path
from tests.model.test_formats import export, random_network
export(random_network(), Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("module") / "exported"
    export(random_network(), folder)
    return folder


def test_bytes_depend_on_the_network_alone(exported: Path, tmp_path: Path) -> None:
    network = random_network()
    predict_proba(network, SAMPLES)
    export(network, tmp_path / "later")
    other = str(tmp_path / "another process")
    succeed(ROOT, sys.executable, "-c", EXPORT, other, PYTHONHASHSEED="2")
    expected = checksums(exported)
    assert set(expected) == {path.name for path, *_ in FORMATS.values()} - {"saved_model"} | {
        "saved_model/saved_model.pb",
        "saved_model/assets.extra/mnist_cnn.json",
    }
    assert checksums(tmp_path / "later") == expected
    assert checksums(tmp_path / "another process") == expected


def test_all_formats_answer_as_the_network_does(exported: Path) -> None:
    expected = predict_proba(random_network(), SAMPLES)
    assert len(np.unique(expected.argmax(axis=1))) > 2
    for path, *_ in FORMATS.values():
        probabilities = load_model(exported / path.name)(SAMPLES)
        assert probabilities.dtype == np.float32
        tolerance = 0.1 if "int8" in path.name else 1e-5
        np.testing.assert_allclose(probabilities, expected, atol=tolerance)


def test_all_formats_name_their_classes(exported: Path) -> None:
    for path, *_ in FORMATS.values():
        assert load_model(exported / path.name).metadata == METADATA


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "Expecting property name"),
        ("[]", "has other keys"),
        ('{"classes": []}', "has other keys"),
        (METADATA.to_json().replace('"picture"', '"sound"'), "has wrong values"),
        (METADATA.to_json().replace('"crop"', "[]"), "has wrong values"),
        (METADATA.to_json().replace('"1"', "1"), "has wrong values"),
        (METADATA.to_json().replace('"1"', r'"\n"'), "has wrong values"),
        (METADATA.to_json() + " " * 2**20, "has more than 1,048,576 characters"),
        (METADATA.to_json().replace('"1",', ""), "it gives 10 probabilities"),
    ],
)
def test_wrong_metadata_is_refused(exported: Path, tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes((exported / path.name).read_bytes().split(b"PK\x03\x04")[0])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("mnist_cnn.json", text)
    with pytest.raises(InputError, match=rf"(?s)model.tflite is not usable \(.*{problem}"):
        load_model(path, described=True)


def test_a_conversion_may_decide_a_tie_differently(exported: Path) -> None:
    probabilities = load_model(exported / "model.onnx")(SAMPLES)
    ranked = np.sort(probabilities, axis=1)
    margins = ranked[:, -1] - ranked[:, -2]
    tie = margins.argmin()
    second, first = probabilities[tie].argsort()[-2:]
    expected = probabilities.copy()
    expected[tie, [first, second]] = probabilities[tie, [second, first]]
    assert (expected.argmax(axis=1) != probabilities.argmax(axis=1)).sum() == 1
    check_conversion("onnx", expected, probabilities, tolerance=1.01 * margins[tie])
    with pytest.raises(InputError, match="differ by up to"):
        check_conversion("onnx", expected, probabilities, tolerance=0.99 * margins[tie])


@pytest.mark.parametrize(("offset", "difference"), [(0.01, "0.01"), (math.nan, "nan")])
def test_a_wrong_conversion_is_refused_in_one_line(
    exported: Path, offset: float, difference: str
) -> None:
    probabilities = load_model(exported / "model.onnx")(SAMPLES)
    expected = probabilities.copy()
    expected[5] += offset
    with pytest.raises(InputError) as error:
        check_conversion("onnx", expected, probabilities, TOLERANCES["onnx"])
    assert str(error.value) == (
        "models/model.onnx and models/model.keras give probabilities that differ by up to "
        f"{difference}: expected at most 0.001; use the package versions in requirements.txt, and "
        "convert again"
    )


def test_an_8_bit_model_that_differs_on_2_of_72_images_is_recorded(exported: Path) -> None:
    probabilities = load_model(exported / "model_int8.tflite")(SAMPLES)
    expected = probabilities.copy()
    expected[:2] = np.roll(expected[:2], 1, axis=1)
    check_conversion("litert_int8", expected, probabilities, TOLERANCES["litert_int8"])
    row = compare_predictions(expected.argmax(axis=1), expected, probabilities)
    assert (row["lost"], row["won"], row["p_value"]) == (2, 0, 0.25)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with prepared arrays, as the export stage expects them."""
    for name in ("train", "validation"):
        write_arrays(tmp_path / f"data/prepared/{name}.npz", [SAMPLES], np.arange(72) % 10)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("factor", [1, 1e4], ids=["usual", "saturated"])
def test_the_stage_writes_all_formats_and_their_checksums(workspace: Path, factor: float) -> None:
    network = random_network(PARAMS.model)
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([factor * kernel, bias])
    (workspace / "models").mkdir()
    FORMATS["keras"].write(network, FORMATS["keras"].path, SAMPLES)
    main()
    exports = pd.read_csv("metrics/exports.csv", index_col="format")
    assert (exports["largest_difference"].drop("litert_int8") <= 0.001).all()
    sizes = [path.stat().st_size for path, *_ in list(FORMATS.values())[1:4]]
    assert exports["size"].tolist()[:3] == sizes
    written = {path for path, *_ in FORMATS.values()} | {Path("models", CHECKSUMS)}
    assert set(Path("models").iterdir()) == written
    files = [Path("models", name) for name in ("model.onnx", "model.tflite", "model_int8.tflite")]
    expected = "".join(f"{sha256(file)}  {file.name}\n" for file in files)
    assert Path("models", CHECKSUMS).read_text() == expected


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (".", "is not a model: expected a SavedModel folder or a file that ends in .keras, .onnx"),
        ("model.txt", "is not a model: expected"),
        ("missing.onnx", "does not exist: expected a model; create"),
        ("", "is not usable"),
        ("model.onnx", "is not usable"),
        ("model.tflite", "is not usable"),
        ("model.keras", "is not a usable Keras model"),
    ],
)
def test_what_is_not_a_model_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, problem: str
) -> None:
    for file in ("model.txt", "model.onnx", "model.tflite", "model.keras"):
        (tmp_path / file).write_text("not a model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=problem) as error:
        load_model(tmp_path / name if name != "." else Path(name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("interface", [((20, 16, 3), 10), ((28, 28, 1), 2)])
def test_a_model_for_other_images_or_classes_is_refused(
    exported: Path, interface: tuple[tuple[int, ...], int]
) -> None:
    for path, *_ in FORMATS.values():
        with pytest.raises(InputError, match=rf"{path.name} is not usable \(it (takes|gives) "):
            load_model(exported / path.name, interface)


@pytest.mark.parametrize("bias", [0.0, np.nan])
def test_a_model_without_probabilities_is_refused(tmp_path: Path, bias: float) -> None:
    network = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "sigmoid")]
    )
    network.set_weights([network.get_weights()[0], np.full(10, bias)])
    FORMATS["onnx"].write(network, tmp_path / "model.onnx", SAMPLES)
    with pytest.raises(InputError, match=r"not usable .its outputs are not probabilities"):
        load_model(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f"{64 * '0'}  model.onnx\n".encode(), "model.onnx does not match its checksum"),
        (b"model.onnx\n", "SHA256SUMS: line 1 is malformed"),
        (b"\xff", "SHA256SUMS cannot be read"),
    ],
)
def test_wrong_checksums_are_refused_in_one_line(
    exported: Path, tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(exported / "model.onnx", path)
    (tmp_path / CHECKSUMS).write_bytes(content)
    with pytest.raises(InputError, match=problem) as error:
        load_model(path)
    assert "\n" not in str(error.value)


def test_the_committed_exports_answer_as_the_network_does() -> None:
    exports = pd.read_csv(ROOT / "metrics/exports.csv", index_col="format")
    differences = exports["largest_difference"].drop("litert_int8")
    assert list(differences.index) == ["onnx", "litert", "saved_model"]
    assert (differences <= 0.001).all()
