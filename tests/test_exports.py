"""The exported formats: they answer as the network does, and their bytes repeat."""

import hashlib
import json
from pathlib import Path

import numpy as np

from mnist_cnn.arrays import Arrays
from mnist_cnn.network import build_network, predict
from mnist_cnn.runtimes import CHECKSUMS, load_model
from tests.conftest import EVERY_BLOCK, ROOT, succeed

EXPORT = """
import sys
from pathlib import Path
import numpy as np
from mnist_cnn.network import load_network, make_deterministic
make_deterministic()
from mnist_cnn.exports import write_litert, write_onnx, write_saved_model
network, folder = load_network(Path(sys.argv[1])), Path(sys.argv[2])
write_onnx(network, folder / "model.onnx")
write_litert(network, folder / "model.tflite")
write_litert(network, folder / "int8.tflite", np.full((3, 28, 28, 1), 0.5, np.float32))
write_saved_model(network, folder / "saved_model")
"""


def digests(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {
        str(file.relative_to(folder)): hashlib.md5(file.read_bytes()).hexdigest() for file in files
    }


def test_a_network_with_everything_in_it(tmp_path: Path, arrays: Arrays) -> None:
    network = build_network(EVERY_BLOCK, (28, 28, 1), 10)
    random = np.random.default_rng(0)  # fresh weights are all alike in some layers: a simpler graph
    network.set_weights([each + 0.1 * random.random(each.shape) for each in network.get_weights()])
    network.save(tmp_path / "model.keras")
    for name, hash_seed in (("a", "0"), ("another place", "2")):
        (tmp_path / name).mkdir()
        paths = str(tmp_path / "model.keras"), str(tmp_path / name)
        succeed(ROOT, "python", "-c", EXPORT, *paths, PYTHONHASHSEED=hash_seed)
    assert digests(tmp_path / "a") == digests(tmp_path / "another place")
    assert len(digests(tmp_path / "a")) == 6
    expected = predict(network, arrays.images, 20)
    for name in ("model.onnx", "model.tflite", "saved_model"):
        probabilities = load_model(tmp_path / "a" / name)(arrays.images)
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    rounded = load_model(tmp_path / "a/int8.tflite")(arrays.images)
    np.testing.assert_allclose(rounded, expected, atol=0.1)


def test_checksums_are_those_of_the_files(pipeline: Path) -> None:
    lines = (pipeline / "models" / CHECKSUMS).read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert set(sums) == {"model.onnx", "model.tflite", "model_int8.tflite"}
    for name, digest in sums.items():
        assert hashlib.sha256((pipeline / "models" / name).read_bytes()).hexdigest() == digest


def test_the_committed_exports_read_the_test_images_as_the_network_does() -> None:
    formats = json.loads((ROOT / "metrics/exports.json").read_text())
    accuracy = json.loads((ROOT / "metrics/metrics.json").read_text())["accuracy"]
    for name in ("onnx", "litert", "saved_model"):
        assert formats[name]["differing_answers"] == 0
        assert formats[name]["accuracy"] == accuracy
    assert formats["litert_int8"]["accuracy"] >= accuracy - 0.001
