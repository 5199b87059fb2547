"""The command `mnist-cnn-predict`."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.files import sha256
from mnist_cnn.reading.predict import main
from mnist_cnn.reading.reader import SURE
from tests.helpers import ENVIRONMENT, ROOT, run
from tests.reading.helpers import SHEET, Pixels, drawing, photograph

PREDICT = ("python", "-m", "mnist_cnn.reading.predict")


LETTER = drawing([(20, 100), (25, 20), (60, 80), (95, 20), (100, 100)])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `my pictures/`, with the digits 0 to 5 of MNIST in separate files and 0 to 3 in
    a row."""
    workspace = tmp_path_factory.mktemp("workspace")
    folder = workspace / "my pictures"
    folder.mkdir()
    row = Image.new("L", (4 * 84, 84), 255)
    for digit, image in enumerate(digit_images()):
        picture = Image.fromarray(255 - image).resize((84, 84))
        picture.save(folder / f"{digit}.png")
        row.paste(picture, (84 * digit, 0))
    row.save(folder / "row.webp", lossless=True)
    return workspace


def digit_images() -> list[Pixels]:
    mnist = load_mnist()
    return [mnist.test_images[np.flatnonzero(mnist.test_labels == digit)[0]] for digit in range(6)]


def predict(workspace: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(workspace, *PREDICT, *arguments, PYTHONPATH=str(ROOT))


def parse(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_a_folder_is_read_in_order(workspace: Path) -> None:
    done = predict(workspace, "--format", "json", "my pictures")
    *readings, row = parse(done.stdout)
    digits = [reading["digits"][0] for reading in readings]
    assert [digit["digit"] for digit in digits] == [0, 1, 2, 3, 4, 5]
    keys = {"digit", "confidence", "sure", "box", "reason"}
    assert all(set(digit) == keys for digit in digits)
    assert all(digit["sure"] == (digit["confidence"] >= SURE) for digit in digits)
    assert all(digit["confidence"] > 0.8 and digit["reason"] is None for digit in digits)
    assert all(set(reading) == {"path", "digits", "sheet", "error"} for reading in readings)
    assert Path(row["path"]) == Path("my pictures/row.webp")
    files = predict(workspace, "--format", "json", *(reading["path"] for reading in readings))
    assert parse(files.stdout) == readings
    assert files.returncode == 3  # not all are sure


def test_several_digits(workspace: Path) -> None:
    done = predict(workspace, "--multiple", "my pictures/row.webp")
    assert done.stdout.splitlines()[1].split()[0] == "0123"


def test_csv_has_a_row_per_digit(workspace: Path) -> None:
    done = predict(workspace, "--multiple", "--format", "csv", "none.png", "my pictures")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 1 + 6 + 4
    assert "No such file" in rows[0]["error"]
    assert all(0 <= int(row["left"]) < int(row["right"]) for row in rows[1:])
    assert done.returncode == 1


def test_unusable_pictures_leave_the_others_alone(workspace: Path, tmp_path: Path) -> None:
    content = (workspace / "my pictures/0.png").read_bytes()
    (tmp_path / "damaged.png").write_bytes(content[:200])
    pixels = np.ones((60, 60), np.float32)
    pixels[30, 30] = np.nan
    Image.fromarray(pixels).save(tmp_path / "nan.tif")
    paths = [*map(str, sorted(tmp_path.iterdir())), "x" * 5000 + ".png", "", "my pictures/0.png"]
    done = predict(workspace, *paths)
    _, damaged, nan, long, empty, good = done.stdout.splitlines()
    assert "damaged.png: it cannot be read as a picture" in damaged
    assert "nan.tif: it contains pixels that are infinite or not a number" in nan
    assert "x.png: it cannot be read as a picture (" in long
    assert empty.strip() == "'': it is not a regular file: expected a picture"
    assert good.endswith("0.png")
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(os.name != "posix", reason="other systems have neither such names nor pipes")
def test_names_and_pipes_in_a_folder_do_no_harm(workspace: Path, tmp_path: Path) -> None:
    name = "a\x1b[31m\n\udcff.png"
    shutil.copy(workspace / "my pictures/0.png", tmp_path / name)
    os.mkfifo(tmp_path / "b.png")
    _, first, second = predict(workspace, str(tmp_path)).stdout.splitlines()
    assert first.endswith(rf"{tmp_path}/a\x1b[31m\n\udcff.png")
    assert second.endswith("b.png: it is not a regular file: expected a picture")
    first, second = predict(workspace, "--format", "json", str(tmp_path)).stdout.splitlines()
    assert first.isprintable()
    assert json.loads(first)["path"] == str(tmp_path / name)


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize(
    ("source", "message"),
    [("<&-", "standard input is closed"), ("< /dev/zero", "it has more than 200 MB: reduce it")],
)
def test_unusable_standard_input_is_one_line(source: str, message: str) -> None:
    done = run(ROOT, "bash", "-c", f"{' '.join(PREDICT)} - {source}")
    _, line = done.stdout.splitlines()
    assert message in line
    assert (done.returncode, done.stderr) == (1, "")


def test_a_folder_without_pictures(workspace: Path) -> None:
    (workspace / "empty").mkdir()
    done = predict(workspace, "empty")
    assert "empty: the folder contains no pictures: expected .png" in done.stdout
    assert done.returncode == 1


def test_doubt_is_marked(workspace: Path, digit_models: Path) -> None:
    done = predict(workspace, "--model", str(digit_models / "untrained.onnx"), "my pictures/1.png")
    assert done.stdout.endswith("1.png: not sure\n")
    assert done.returncode == 3


def test_what_is_not_a_digit_is_refused(workspace: Path, tmp_path: Path) -> None:
    LETTER.save(tmp_path / "m.png")
    table = predict(workspace, str(tmp_path))
    assert table.stdout.splitlines()[1].split()[0] == "-"
    assert table.stdout.endswith("m.png: not a digit\n")
    assert table.returncode == 3
    done = predict(workspace, "--format", "json", str(tmp_path))
    (digit,) = parse(done.stdout)[0]["digits"]
    assert (digit["digit"], digit["sure"], digit["reason"]) == (None, False, "not a digit")
    rows = csv.DictReader(io.StringIO(predict(workspace, "--format", "csv", str(tmp_path)).stdout))
    (row,) = rows
    assert (row["digit"], row["sure"], row["reason"]) == ("", "False", "not a digit")


def test_the_sheets_corners_are_in_the_pictures_own_pixels(workspace: Path, tmp_path: Path) -> None:
    photograph(digit_images()[2], 2000, 1500).save(tmp_path / "sheet.jpg")
    done = predict(workspace, "--format", "json", "my pictures/2.png", str(tmp_path))
    plain, photo = parse(done.stdout)
    assert plain["sheet"] is None
    assert [digit["digit"] for digit in photo["digits"]] == [2]
    assert all(isinstance(side, int) for corner in photo["sheet"] for side in corner)
    np.testing.assert_allclose(photo["sheet"], SHEET * (2000, 1500), atol=20)


def test_standard_input(workspace: Path) -> None:
    path = workspace / "my pictures/1.png"
    piped = subprocess.run(
        [*PREDICT, "--format", "json", "-"],
        input=path.read_bytes(),
        cwd=workspace,
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
    )
    named = predict(workspace, "--format", "json", str(path))
    assert parse(piped.stdout.decode())[0]["digits"] == parse(named.stdout)[0]["digits"]


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a closed pipe is another error")
def test_a_reader_that_closes_the_pipe_ends_it_quietly(workspace: Path) -> None:
    many = ["my pictures/0.png"] * 300
    with subprocess.Popen(
        [*PREDICT, *many],
        cwd=workspace,
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline().startswith(b"digits")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_every_format_gives_the_same_answer(
    workspace: Path,
    digit_models: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = set()
    for model in ("model.onnx", "model.tflite", "model.keras", "saved_model"):
        paths = (str(digit_models / model), str(workspace / "my pictures"))
        monkeypatch.setattr(sys, "argv", ["predict", "--model", *paths])
        with pytest.raises(SystemExit):
            main()
        answers.add(capsys.readouterr().out)
    (answer,) = answers
    assert answer.count("\n") == 1 + 7


def test_an_explanation_is_drawn(workspace: Path, tmp_path: Path) -> None:
    predict(workspace, "--multiple", "--explain", str(tmp_path), "my pictures/row.webp")
    with Image.open(tmp_path / "0001-row.png") as picture:
        assert picture.size == (1000, 680)


def test_a_changed_model_is_refused(workspace: Path, digit_models: Path, tmp_path: Path) -> None:
    content = bytearray((digit_models / "model.onnx").read_bytes())
    checksum = sha256(digit_models / "model.onnx")
    (tmp_path / "SHA256SUMS").write_text(f"{checksum}  model.onnx\n")
    content[-1000] ^= 1
    (tmp_path / "model.onnx").write_bytes(content)
    done = predict(workspace, "--model", str(tmp_path / "model.onnx"), "my pictures")
    assert "model.onnx does not match its checksum in" in done.stderr
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.onnx", None, "does not exist: expected a model; create models/model.onnx"),
        ("model.onnx", b"not a model", "is not usable"),
        ("model.tflite", b"not a model", "is not usable"),
        ("model.keras", b"not a model", "is not a usable Keras model"),
        ("model.pkl", b"not a model", "is not a model: expected a SavedModel folder or a file"),
        (".", None, ". is not a model: expected a SavedModel folder or a file"),
        ("", None, ". is not a model: expected a SavedModel folder or a file"),
        ("/", None, f"{Path('/')} is not a model: expected a SavedModel folder or a file"),
    ],
)
def test_an_unusable_model_is_one_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content:
        (tmp_path / name).write_bytes(content)
    done = predict(tmp_path, "--model", name, "x.png")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.returncode == 1


MODULES = """
import runpy, sys
try:
    runpy.run_module("mnist_cnn.reading.predict", run_name="__main__")
except SystemExit:
    print(*sys.modules)
"""


def test_an_onnx_model_needs_neither_tensorflow_nor_pandas(workspace: Path) -> None:
    command = ("python", "-c", MODULES, "my pictures/0.png")
    imported = set(run(workspace, *command, PYTHONPATH=str(ROOT)).stdout.split())
    assert "onnxruntime" in imported
    assert not imported & {"tensorflow", "keras", "pandas", "scipy", "sklearn", "matplotlib"}
