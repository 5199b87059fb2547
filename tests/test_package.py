"""The wheel, installed without extras, which is enough to read pictures."""

import configparser
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers import ROOT, run, succeed


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    source = shutil.copytree(clone, folder / "source")  # building leaves files behind
    build = ("pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), ".")
    succeed(source, "python", "-m", *build)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    environment = tmp_path_factory.mktemp("environment")
    succeed(ROOT, sys.executable, "-m", "venv", str(environment))
    # The locked versions without their hashes: pip has none for the wheel.
    locked = re.findall(r"^(\S+==.+) \\$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    constraints = environment / "constraints.txt"
    constraints.write_text("\n".join(locked))
    install = ("-m", "pip", "install", "--quiet", "--constraint", str(constraints), str(wheel))
    done = run(ROOT, command(environment, "python"), *install)
    if "No matching distribution" in done.stderr and "CI" not in os.environ:
        pytest.skip("this test needs the package index, which can't be reached")
    assert done.returncode == 0, done.stderr
    return environment


def command(environment: Path, name: str) -> str:
    path = shutil.which(name, path=environment / ("Scripts" if os.name == "nt" else "bin"))
    assert path
    return path


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (name for name in names if name.endswith("/entry_points.txt"))
        scripts = configparser.ConfigParser()
        scripts.read_string(archive.read(entry_points).decode())
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "mnist_cnn").rglob("*")
        if path.suffix in (".py", ".html", ".onnx")
    }
    assert {name for name in names if ".dist-info/" not in name} == package
    assert {"mnist_cnn/reading/demo.html", "mnist_cnn/reading/reader.onnx"} <= package
    assert dict(scripts["console_scripts"]) == {
        "mnist-cnn-predict": "mnist_cnn.reading.predict:main",
        "mnist-cnn-demo": "mnist_cnn.reading.demo:main",
        "mnist-cnn-gate": "mnist_cnn.gate:main",
    }


def test_it_reads_a_picture_without_tensorflow(environment: Path, tmp_path: Path) -> None:
    options = ("--multiple", "--explain", "explained")
    predict = command(environment, "mnist-cnn-predict")
    done = run(tmp_path, predict, *options, str(ROOT / "data/example.jpg"))
    assert done.returncode in (0, 3), done.stderr
    assert done.stdout.splitlines()[1].split()[0] == "2026"
    assert (tmp_path / "explained/0001-example.png").exists()
    available = "from importlib.util import find_spec as f; print(f('tensorflow'), f('dvc'))"
    assert succeed(tmp_path, command(environment, "python"), "-c", available) == "None None\n"


@pytest.mark.parametrize("name", ["predict", "demo"])
def test_usage_shows_the_name_of_the_command(environment: Path, tmp_path: Path, name: str) -> None:
    usage = succeed(tmp_path, command(environment, f"mnist-cnn-{name}"), "--help")
    assert usage.startswith(f"usage: mnist-cnn-{name} ")


def test_a_missing_extra_is_one_line(environment: Path, digit_models: Path, tmp_path: Path) -> None:
    gate = run(tmp_path, command(environment, "mnist-cnn-gate"))
    assert gate.returncode == 2
    assert gate.stderr == (
        "error: mnist-cnn-gate needs dvc: expected the extra `pipeline`; in a clone, "
        "`pip install '.[pipeline]'` installs it\n"
    )
    model = ("--model", str(digit_models / "model.keras"))
    predict = run(tmp_path, command(environment, "mnist-cnn-predict"), *model, "x.png")
    assert predict.returncode == 1
    assert "model.keras needs the package keras: expected the extra `pipeline`" in predict.stderr
    assert predict.stderr.count("\n") == 1
