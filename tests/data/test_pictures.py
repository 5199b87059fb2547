"""Pictures scaled to one size: the same bytes everywhere."""

import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mnist_cnn.data.pictures import fit_picture, load_image
from mnist_cnn.errors import InputError
from tests.helpers import ENVIRONMENT, ROOT

EXAMPLE = ROOT / "data/example.jpg"
DIGEST = "88192190653531fad41d4bc39f626844e6b2d537ee54465932d0b03b9384a3a0"
DECODE = """
import hashlib, sys
from pathlib import Path
from mnist_cnn.data.pictures import load_image
for shape in ((64, 48, 3), (1500, 1000, 3), (28, 28, 1)):
    for resizing in ("pad", "crop"):
        image = load_image(Path(sys.argv[1]), shape, resizing)
        print(hashlib.sha256(image.tobytes()).hexdigest())
"""


@pytest.mark.parametrize("simd", ["used", "unused"])
def test_a_jpeg_decodes_to_the_same_bytes_with_and_without_simd(simd: str) -> None:
    """JSIMD_FORCENONE makes libjpeg-turbo use its C code, as on CPUs it has no assembly for."""
    environment = {"JSIMD_FORCENONE": "1"} if simd == "unused" else {}
    done = subprocess.run(
        [sys.executable, "-c", DECODE, EXAMPLE],
        cwd=ROOT,
        env=ENVIRONMENT | environment,
        capture_output=True,
        check=True,
    )
    assert len(set(done.stdout.split())) == 6
    assert hashlib.sha256(done.stdout.replace(b"\r", b"")).hexdigest() == DIGEST


def halves() -> Image.Image:
    """40 x 20 pixels: the left half black, the right half red."""
    picture = Image.new("RGB", (40, 20))
    picture.paste("red", (20, 0, 40, 20))
    return picture


def test_padding_keeps_all_and_fills_up_with_the_colour_of_the_border() -> None:
    image = fit_picture(halves(), (20, 20, 3), "pad")
    assert image[10, 2].tolist() == [0, 0, 0]
    assert image[10, 17].tolist() == [255, 0, 0]
    assert image[0, 0].tolist() == image[19, 19].tolist() == [128, 0, 0]


def test_cropping_fills_the_image_with_the_middle() -> None:
    image = fit_picture(halves(), (20, 20, 3), "crop")
    assert image[:, :9].max() == 0
    assert (image[:, 11:, 0] == 255).all()


def test_a_picture_of_the_right_size_keeps_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    for resizing in ("pad", "crop"):
        image = fit_picture(Image.fromarray(pixels), (9, 7, 1), resizing)
        np.testing.assert_array_equal(image[..., 0], pixels)


def test_transparent_areas_become_white() -> None:
    for mode in ("RGBA", "LA"):
        assert (fit_picture(Image.new(mode, (4, 4)), (4, 4, 3), "pad") == 255).all()


def test_16_bits_become_8() -> None:
    pixels = np.array([[0, 255, 256, 65535]], np.uint16)
    image = fit_picture(Image.fromarray(pixels), (1, 4, 1), "pad")
    assert image.ravel().tolist() == [0, 0, 1, 255]


def test_fractions_are_refused() -> None:
    with pytest.raises(InputError, match="floating-point numbers: expected integers"):
        fit_picture(Image.new("F", (4, 4)), (4, 4, 1), "pad")


def test_a_large_jpeg_is_decoded_at_a_smaller_size(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((4000, 2000)).save(file, "JPEG")
    sizes = []
    monkeypatch.setattr(
        "mnist_cnn.data.pictures.fit_picture", lambda picture, *_: sizes.append(picture.size)
    )
    load_image(file, (64, 64), "pad")
    assert sizes == [(500, 250)]
