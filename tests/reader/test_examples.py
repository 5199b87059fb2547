"""The examples that the reader's network is trained on."""

import hashlib

import numpy as np
import pytest
from ruamel.yaml import YAML

from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.reading.reader import OTHER, READER
from reader.examples import KINDS, Digits, make_examples
from reader.train import PARAMS, ReaderParams
from tests.helpers import ROOT

FEW = dict.fromkeys(KINDS, 12)


@pytest.fixture(scope="module")
def digits() -> Digits:
    mnist = load_mnist()
    return np.asarray(mnist.train_images[:500]), mnist.train_labels[:500]


def test_examples_depend_on_the_seed_alone(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = make_examples(FEW, digits, seed=1)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    again, same_labels = make_examples(FEW, digits, seed=1)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, same_labels)
    others, _ = make_examples(FEW, digits, seed=2)
    assert (images != others).any(axis=(1, 2, 3)).all()


def test_every_kind_makes_images_of_its_classes(digits: Digits) -> None:
    images, labels = make_examples(FEW, digits, seed=1)
    assert (images.max(axis=(1, 2, 3)) == 255).all()
    for kind, own in zip(KINDS, labels.reshape(-1, 12), strict=True):
        if kind in ("plain_digit", "digit", "drawn_digit"):
            assert own.max() < 10
        elif kind == "pair":
            assert own.min() >= 10 and own.max() < OTHER
        else:
            assert (own == OTHER).all()


def test_a_pair_is_wider_than_a_digit(digits: Digits) -> None:
    images, labels = make_examples({"digit": 40, "pair": 40}, digits, seed=1)
    widths = (images[..., 0] > 60).any(axis=1).sum(axis=1)
    assert widths[labels >= 10].mean() > 1.3 * widths[labels < 10].mean()


def test_the_packaged_network_is_the_locked_one() -> None:
    lock = YAML(typ="safe").load(ROOT / "reader/dvc.lock")
    (output,) = lock["stages"]["train"]["outs"]
    assert output["path"] == READER.relative_to(ROOT).as_posix()
    assert output["md5"] == hashlib.md5(READER.read_bytes(), usedforsecurity=False).hexdigest()
    params = ReaderParams.model_validate(YAML(typ="safe").load(ROOT / PARAMS))
    assert list(params.examples.counts) == list(KINDS)
