"""Fixtures for all tests: clones of the repository, a small dataset and models that read digits."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from filelock import FileLock
from playwright.sync_api import Browser, sync_playwright

from mnist_cnn.data.arrays import DIGITS, Arrays
from mnist_cnn.data.images import normalize
from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.params import load_params
from tests.helpers import PARAMS_TEXT, ROOT, STAGES, commit_all, set_params, stages_run, succeed

SharedFolder = Callable[[str, Callable[[Path], None]], Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that train a network, so that `-m "not training"` skips them. Start with the files
    that take longest, some of which don't wait for the small pipeline."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if (
            fixtures & {"small_pipeline", "digit_models", "own", "trained"}
            or item.path.parent.name == "training"
        ):
            item.add_marker(pytest.mark.training)
    order = ["test_docs_experiments.py", "test_demo.py", "test_reader.py", "test_predict.py"]
    order += ["test_docs.py", "test_run_cache.py"]
    items.sort(key=lambda item: [*order, item.path.name].index(item.path.name))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> SharedFolder:
    """A function that fills a folder once and shares it between parallel test processes."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder = base / name
        with FileLock(base / f"{name}.lock"):
            if not folder.exists():
                partial = base / f"{name}.partial"
                fill(partial)
                partial.rename(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def clone(shared_folder: SharedFolder) -> Path:
    """A copy of the working tree, without ignored files, as a new repository. Don't change it."""

    def fill(folder: Path) -> None:
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in names.split("\0"):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        succeed(folder, "git", "init", "--quiet", "--initial-branch", "main")
        commit_all(folder)

    return shared_folder("scratch clone", fill)


@pytest.fixture(scope="session")
def small_pipeline(clone: Path, shared_folder: SharedFolder) -> Path:
    """A clone in which `dvc repro` has run on a small dataset, with its results committed: 1,000
    training, 200 validation and 400 test images of MNIST, 2 epochs. Don't change it."""

    def fill(folder: Path) -> None:
        shutil.copytree(clone, folder)
        mnist = load_mnist()
        np.savez(
            folder / "data/raw/digits.npz",
            x_train=mnist.train_images[:1200],
            y_train=mnist.train_labels[:1200],
            x_test=mnist.test_images[:400],
            y_test=mnist.test_labels[:400],
        )
        succeed(folder, "dvc", "add", "--quiet", "data/raw/digits.npz")
        (folder / "params.yaml").write_text(PARAMS_TEXT)
        set_params(
            folder,
            prepare={"source": "digits.npz", "validation_split": 1 / 6},
            train={"epochs": 2, "batch_size": 32, "learning_rate": 0.006},
            gate={
                "limits": {"digits.npz": {"floors": {"accuracy": 0.6}, "ceilings": {"loss": 2.0}}}
            },
        )
        assert stages_run(folder) == list(STAGES)
        commit_all(folder)

    return shared_folder("small pipe line", fill)


@pytest.fixture(scope="module")
def pipeline(small_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `small_pipeline` that one module may change."""
    return shutil.copytree(small_pipeline, tmp_path_factory.mktemp("module") / "pipe line")


@pytest.fixture(scope="session")
def digit_models(shared_folder: SharedFolder) -> Path:
    """A folder with model.keras, model.onnx, model.tflite and saved_model, which the recipe `fast`
    trained with 20,000 images of MNIST, and untrained.onnx."""

    def fill(folder: Path) -> None:
        from mnist_cnn.errors import suppress_stderr
        from mnist_cnn.model.backend import set_seed
        from mnist_cnn.model.formats import keras, litert, onnx, saved_model
        from mnist_cnn.model.network import build_network
        from mnist_cnn.training.fit import fit

        folder.mkdir()
        shutil.copy(ROOT / "params.yaml", folder)
        set_params(folder, **yaml.safe_load((ROOT / "recipes/fast.yaml").read_text()))
        params = load_params(folder / "params.yaml")
        mnist = load_mnist()
        images, labels = mnist.train_images[:20000], mnist.train_labels[:20000]
        train = Arrays(normalize(images), labels.astype(np.int64))
        few = Arrays(train.images[:100], train.labels[:100])
        set_seed(params.train.seed)
        network = build_network(params.model, (28, 28, 1), len(DIGITS))
        with suppress_stderr():
            onnx.write(network, folder / "untrained.onnx")
        for _ in fit(network, train, few, params.train):
            pass
        with suppress_stderr():
            onnx.write(network, folder / "model.onnx")
            litert.write(network, folder / "model.tflite")
            keras.write(network, folder / "model.keras")
            saved_model.write(network, folder / "saved_model")

    return shared_folder("digit models", fill)


@pytest.fixture
def arrays() -> Arrays:
    """Twenty images of noise, two of each class."""
    images = np.random.default_rng(0).random((20, 28, 28, 1), dtype=np.float32)
    return Arrays(images, np.arange(20) % 10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if not executable:
        missing = "this test needs a browser: install chromium (or google-chrome)"
        pytest.fail(missing) if "CI" in os.environ else pytest.skip(missing)
    # Run in containers, and without requests by the browser itself.
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()
