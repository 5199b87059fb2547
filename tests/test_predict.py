"""The command that reads pictures."""

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mnist_cnn.datasets import load_mnist
from tests.conftest import ENVIRONMENT, run

PREDICT = ("python", "-m", "mnist_cnn.predict")


@pytest.fixture(scope="module")
def surest(pipeline: Path) -> pd.DataFrame:
    """`index` and `predicted` of the test images of which the network is most confident."""
    table = pd.read_csv(pipeline / "metrics/predictions.csv")
    return table.nlargest(6, "confidence")


@pytest.fixture(scope="module")
def pictures(pipeline: Path, surest: pd.DataFrame) -> Path:
    folder = pipeline / "my pictures"
    folder.mkdir()
    images = load_mnist().test_images[surest["index"]]
    for number, image in enumerate(images):
        Image.fromarray(255 - image).resize((84, 84)).save(folder / f"{number}.png")
    row = Image.new("L", (4 * 84, 84), 255)
    for number in range(4):
        row.paste(Image.open(folder / f"{number}.png"), (84 * number, 0))
    row.save(folder / "row.webp", lossless=True)
    return folder


def lines(printed: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_a_folder_is_read_in_order(pipeline: Path, pictures: Path, surest: pd.DataFrame) -> None:
    done = run(pipeline, *PREDICT, "--format", "json", *map(str, sorted(pictures.glob("*.png"))))
    readings = lines(done.stdout)
    digits = [reading["digits"][0] for reading in readings]  # type: ignore[index]
    assert [digit["digit"] for digit in digits] == surest["predicted"].tolist()
    assert all(set(digit) == {"digit", "confidence", "sure", "box"} for digit in digits)
    assert all(reading["error"] is None for reading in readings)
    assert done.returncode == (0 if all(digit["sure"] for digit in digits) else 3)
    whole = run(pipeline, *PREDICT, "--format", "json", str(pictures))
    assert lines(whole.stdout)[:6] == readings


def test_several_digits(pipeline: Path, pictures: Path, surest: pd.DataFrame) -> None:
    done = run(pipeline, *PREDICT, "--multiple", str(pictures / "row.webp"))
    assert done.stdout.splitlines()[1].split()[0] == "".join(map(str, surest["predicted"][:4]))


def test_csv_has_a_row_per_digit(pipeline: Path, pictures: Path) -> None:
    done = run(pipeline, *PREDICT, "--multiple", "--format", "csv", "none.png", str(pictures))
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 1 + 6 + 4
    assert "No such file" in rows[0]["error"]
    assert all(0 <= int(row["left"]) < int(row["right"]) for row in rows[1:])
    assert done.returncode == 1


def test_an_unreadable_picture_leaves_the_others_alone(pipeline: Path, pictures: Path) -> None:
    damaged = pictures.with_name("damaged.png")
    damaged.write_bytes((pictures / "0.png").read_bytes()[:200])
    done = run(pipeline, *PREDICT, str(damaged), str(pictures / "0.png"))
    _, first, second = done.stdout.splitlines()
    assert "damaged.png: it cannot be read as a picture" in first
    assert second.endswith("0.png") or second.endswith("0.png: not sure")
    assert (done.returncode, done.stderr) == (1, "")


def test_a_folder_without_pictures(pipeline: Path) -> None:
    done = run(pipeline, *PREDICT, "recipes")
    assert "recipes: the folder holds no picture: expected .png" in done.stdout
    assert done.returncode == 1


def test_doubt_is_marked(pipeline: Path, tmp_path: Path) -> None:
    scribble = np.full((60, 60), 255, np.uint8)
    scribble[10:50, 10:50] = 0
    Image.fromarray(scribble).save(tmp_path / "block.png")
    done = run(pipeline, *PREDICT, str(tmp_path / "block.png"))
    assert done.stdout.endswith("block.png: not sure\n")
    assert done.returncode == 3


def test_standard_input(pipeline: Path, pictures: Path) -> None:
    content = (pictures / "1.png").read_bytes()
    command = [*PREDICT, "--format", "json", "-"]
    done = subprocess.run(command, input=content, cwd=pipeline, env=ENVIRONMENT, check=False,
                          capture_output=True)  # fmt: skip
    named = run(pipeline, *PREDICT, "--format", "json", str(pictures / "1.png"))
    assert lines(done.stdout.decode())[0]["digits"] == lines(named.stdout)[0]["digits"]


def test_every_format_gives_the_same_answer(pipeline: Path, pictures: Path) -> None:
    answers = set()
    for model in ("model.onnx", "model.tflite", "model.keras", "saved_model"):
        done = run(pipeline, *PREDICT, "--model", f"models/{model}", str(pictures))
        answers.add(done.stdout)
    assert len(answers) == 1


def test_an_explanation_is_drawn(pipeline: Path, pictures: Path, tmp_path: Path) -> None:
    run(pipeline, *PREDICT, "--multiple", "--explain", str(tmp_path), str(pictures / "row.webp"))
    with Image.open(tmp_path / "0001-row.png") as picture:
        assert picture.size == (800, 760)


def test_a_changed_export_is_refused(pipeline: Path, pictures: Path, tmp_path: Path) -> None:
    models = shutil.copytree(pipeline / "models", tmp_path / "models")
    content = bytearray((models / "model.onnx").read_bytes())
    content[-1000] ^= 1
    (models / "model.onnx").write_bytes(content)
    done = run(pipeline, *PREDICT, "--model", str(models / "model.onnx"), str(pictures))
    assert "model.onnx does not match its checksum in" in done.stderr
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.onnx", None, "there is no such model"),
        ("model.onnx", b"no model", "is not usable"),
        ("model.tflite", b"no model", "is not usable"),
        ("model.keras", b"no model", "is not a usable Keras model"),
        ("model.pkl", b"no model", "is no model: expected a file .onnx, .tflite, .keras"),
    ],
)
def test_an_unusable_model_is_one_line(
    pipeline: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content:
        (tmp_path / name).write_bytes(content)
    done = run(pipeline, *PREDICT, "--model", str(tmp_path / name), "x.png")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.returncode == 1


MODULES = """
import runpy, sys
try:
    runpy.run_module("mnist_cnn.predict", run_name="__main__")
except SystemExit:
    print(*sys.modules)
"""


def test_one_picture_needs_neither_tensorflow_nor_pandas(pipeline: Path, pictures: Path) -> None:
    printed = run(pipeline, "python", "-c", MODULES, str(pictures / "0.png")).stdout
    imported = set(printed.split())
    assert "onnxruntime" in imported
    assert not imported & {"tensorflow", "keras", "pandas", "scipy", "sklearn", "matplotlib"}
