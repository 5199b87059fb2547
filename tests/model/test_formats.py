"""Exports give the network's answers and reproducible bytes, and wrong ones are refused."""

import math
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper

from mnist_cnn.data.arrays import write_arrays
from mnist_cnn.data.images import normalize
from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.errors import InputError, suppress_stderr
from mnist_cnn.evaluation.scores import compare_predictions
from mnist_cnn.files import sha256
from mnist_cnn.model.backend import keras, set_seed, tf
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
        ("/", "is not a model: expected a SavedModel folder or a file that ends in .keras, .onnx"),
        ("missing.onnx", "does not exist: expected a model; create"),
        (f"{'x' * 300}.onnx", "does not exist: expected a model; create"),
        ("", "saved_model.pb cannot be read"),
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


Node = onnx.NodeProto
IMAGES = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 28, 28, 1])
ANSWER = helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["N", 10])


def write_onnx(path: Path, nodes: list[Node], **constants: npt.ArrayLike) -> None:
    """Write an ONNX file whose `nodes` follow the logits of a random linear model."""
    logits = [
        helper.make_node("Flatten", ["images"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "weights"], ["logits"]),
    ]
    weights = np.random.default_rng(0).standard_normal((784, 10), np.float32) / 10
    values = [
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in {"weights": weights, **constants}.items()
    ]
    graph = helper.make_graph(logits + nodes, "graph", [IMAGES], [ANSWER], values)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def answer_plus(value: str) -> list[Node]:
    """Add a number to the logits, so that it has to be computed."""
    return [
        helper.make_node("Add", ["logits", value], ["moved"]),
        helper.make_node("Softmax", ["moved"], ["answer"]),
    ]


def test_a_model_that_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        *answer_plus("zero"),
    ]
    write_onnx(path, nodes, shape=np.array([2**20]))
    load_model(path)
    write_onnx(path, nodes, shape=np.array([1_010_000_000]))
    with pytest.raises(InputError, match=r"model.onnx is not usable .*Available memory"):
        load_model(path)


def test_a_model_that_takes_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_cnn.model.formats.onnx.MAX_SECONDS", 0.5)
    path = tmp_path / "model.onnx"
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go on"], ["goes on"]),
            helper.make_node("Add", ["sum", "sum"], ["twice"]),
        ],
        "body",
        [
            info("round", TensorProto.INT64, []),
            info("go on", TensorProto.BOOL, []),
            info("sum", TensorProto.FLOAT, []),
        ],
        [info("goes on", TensorProto.BOOL, []), info("twice", TensorProto.FLOAT, [])],
    )
    endless = [
        helper.make_node("ReduceMin", ["pixels"], ["zero"], keepdims=0),
        helper.make_node("Loop", ["rounds", "start", "zero"], ["last"], body=body),
        *answer_plus("last"),
    ]
    write_onnx(path, endless, rounds=np.array(10**12), start=np.array(True))
    with pytest.raises(InputError, match=r"model.onnx is not usable .*terminate flag"):
        load_model(path)
    # Products of constants, which ONNX Runtime would compute in advance.
    products = [helper.make_node("ConstantOfShape", ["shape"], ["m0"])]
    products += [helper.make_node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(50)]
    products.append(helper.make_node("ReduceMax", ["m50"], ["zero"], keepdims=0))
    write_onnx(path, products + answer_plus("zero"), shape=np.array([2000, 2000]))
    with pytest.raises(InputError, match=r"model.onnx is not usable .*terminate flag"):
        load_model(path)


def test_an_answer_that_is_no_probability_is_refused_for_any_image(tmp_path: Path) -> None:
    """This one gives probabilities for black images."""
    path = tmp_path / "model.onnx"
    nodes = [
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
        helper.make_node("ReduceSum", ["pixels", "axis"], ["ink"]),
        helper.make_node("Add", ["probabilities", "ink"], ["answer"]),
    ]
    write_onnx(path, nodes, axis=np.array([1]))
    model = load_model(path)
    with pytest.raises(InputError, match=r"fails on an image .its outputs are not probabilities"):
        model(SAMPLES)


@pytest.mark.parametrize("place", ["../weights", "{folder}/weights", "link"])
def test_weights_outside_the_folder_are_not_read(tmp_path: Path, place: str) -> None:
    (tmp_path / "weights").write_bytes(bytes(31_360))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to("../weights")
    path = folder / "model.onnx"
    write_onnx(path, [helper.make_node("Softmax", ["logits"], ["answer"])])
    load_model(path)
    model = onnx.load(path)
    (weights,) = model.graph.initializer
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    location = place.format(folder=tmp_path)
    weights.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"model.onnx is not usable .*[Ee]xternal data"):
        load_model(path)


def test_a_file_that_unzips_to_much_more_is_refused(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    shutil.copy(exported / path.name, path)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("assets/zeros", "w", force_zip64=True) as file,
    ):
        for _ in range(1000):
            file.write(bytes(2**20))
    with pytest.raises(InputError, match="it unzips to more than 1,000,000,000 bytes"):
        load_model(path)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_a_network_that_takes_too_much_memory_is_refused(tmp_path: Path, exported: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(exported / path.name) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    config = contents["config.json"].replace(b'"units": 10,', b'"units": 100000000,')
    assert config != contents["config.json"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (contents | {"config.json": config}).items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match=r"not a usable Keras model \(.*OOM when allocating"):
        load_model(path)


def test_a_saved_model_that_does_more_than_compute_is_refused(tmp_path: Path) -> None:
    written = tmp_path / "written"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images = tf.compat.v1.placeholder(tf.float32, (None, 28, 28, 1))
        with tf.control_dependencies([tf.io.write_file(str(written), "text")]):
            answer = tf.nn.softmax(tf.reshape(images, (-1, 784))[:, :10])
        tf.compat.v1.saved_model.simple_save(
            session, str(tmp_path / "graph"), {"images": images}, {"output_0": answer}
        )
    with pytest.raises(InputError, match="it uses the operation WriteFile, which could do any"):
        load_model(tmp_path / "graph")
    assert not written.exists()
    with suppress_stderr():
        random_network().export(tmp_path / "functions", verbose=False)
    with pytest.raises(InputError, match="it is not a frozen graph"):
        load_model(tmp_path / "functions")


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "model.keras", "folder"])
def test_only_regular_files_of_a_sensible_size_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if not path.suffix:
        path.mkdir()
        path /= "saved_model.pb"
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"cannot be read .it is not a regular file"):
        load_model(tmp_path / name)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"cannot be read .it is not a regular file"):
        load_model(tmp_path / name)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(10**10)
    with pytest.raises(InputError, match=r"cannot be read .it has 10,000,000,000 bytes"):
        load_model(tmp_path / name)


WRONG = 64 * "0"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f"{WRONG}  model.onnx\n".encode(), "model.onnx does not match its checksum"),
        (f"{WRONG} *model.onnx\n".encode(), "model.onnx does not match its checksum"),
        (f"{WRONG}  ./model.onnx\n".encode(), "model.onnx does not match its checksum"),
        (f"{{right}}  model.onnx\n{WRONG}  model.onnx\n".encode(), "does not match its checksum"),
        (b"model.onnx\n", "SHA256SUMS: line 1 is malformed"),
        (b"\n", "SHA256SUMS: line 1 is malformed"),
        (b"\xff", "SHA256SUMS cannot be read"),
        (b"\n" * 2_000_000, "SHA256SUMS cannot be read .it has 2,000,000 bytes"),
    ],
)
def test_wrong_checksums_are_refused_in_one_line(
    exported: Path, tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(exported / "model.onnx", path)
    (tmp_path / CHECKSUMS).write_bytes(content.replace(b"{right}", sha256(path).encode()))
    with pytest.raises(InputError, match=problem) as error:
        load_model(path)
    assert "\n" not in str(error.value)


def test_checksums_may_be_in_capitals(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(exported / "model.onnx", path)
    (tmp_path / CHECKSUMS).write_text(f"{sha256(path).upper()} *./model.onnx\n")
    load_model(path)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: path.mkdir(), "it is not a regular file"),
        (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("missing"), "No such file or directory"),
        (lambda path: path.symlink_to("/dev/zero"), "it is not a regular file"),
        (os.mkfifo, "it is not a regular file"),
    ],
)
def test_checksums_that_are_no_file_are_not_skipped(
    exported: Path, tmp_path: Path, make: Callable[[Path], None], problem: str
) -> None:
    shutil.copy(exported / "model.onnx", tmp_path)
    make(tmp_path / CHECKSUMS)
    with pytest.raises(InputError, match=rf"SHA256SUMS cannot be read \({problem}\)"):
        load_model(tmp_path / "model.onnx")


def test_a_folder_in_the_checksums_is_refused(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported / "saved_model", tmp_path / "saved_model")
    (tmp_path / CHECKSUMS).write_text(f"{WRONG}  saved_model\n")
    with pytest.raises(InputError, match="saved_model does not match its checksum"):
        load_model(tmp_path / "saved_model")


def test_the_committed_exports_answer_as_the_network_does() -> None:
    exports = pd.read_csv(ROOT / "metrics/exports.csv", index_col="format")
    differences = exports["largest_difference"].drop("litert_int8")
    assert list(differences.index) == ["onnx", "litert", "saved_model"]
    assert (differences <= 0.001).all()
