"""Decode picture files."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mnist_cnn.data.pictures import File
from mnist_cnn.errors import InputError
from mnist_cnn.reading.pictures import read_picture
from tests.reading.helpers import SEVEN, drawing, encoded


def grey(file: File) -> npt.NDArray[np.float32]:
    return np.asarray(read_picture(file)[0].mean(axis=2))


def difference(file: File) -> float:
    """Return the mean difference from the same strokes in plain black on white."""
    return float(np.abs(grey(file) - grey(encoded(drawing(SEVEN)))).mean())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "LA", "RGBA", "CMYK", "I;16"])
def test_formats_and_modes(kind: str, mode: str) -> None:
    picture = drawing(SEVEN)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    else:
        picture = picture.convert("RGB").convert(mode)
    try:
        file = encoded(picture, kind)
    except (OSError, KeyError, ValueError) as error:
        pytest.skip(f"{kind} has no mode {mode}: {error}")
    assert difference(file) < 0.01


def test_colours_stay_apart() -> None:
    colours, _ = read_picture(encoded(Image.new("RGB", (5, 4), (255, 0, 51))))
    np.testing.assert_allclose(colours, np.broadcast_to([1, 0, 0.2], (4, 5, 3)))


@pytest.mark.parametrize("ink", [0, 255])
def test_a_transparent_background_differs_from_the_ink(ink: int) -> None:
    opacity = Image.fromarray(255 - np.asarray(drawing(SEVEN)))
    picture = Image.new("LA", opacity.size, (ink, 0))
    picture.putalpha(opacity)
    shown = grey(encoded(picture))
    expected = grey(encoded(drawing(SEVEN)))
    np.testing.assert_allclose(shown, expected if ink == 0 else 1 - expected, atol=0.01)


def test_a_rotated_photograph_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    turned = drawing(SEVEN).transpose(Image.Transpose.ROTATE_90)
    assert difference(encoded(turned, "JPEG", exif=exif, quality=95)) < 0.01


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_large_picture_is_reduced(kind: str) -> None:
    picture, reduction = read_picture(encoded(Image.new("L", (3000, 1500), 200), kind))
    assert picture.shape == (500, 1000, 1)
    assert reduction == 3
    small, reduction = read_picture(encoded(drawing(SEVEN), kind))
    assert (small.shape, reduction) == ((120, 120, 1), 1)


@pytest.mark.parametrize("pixel", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_refused(pixel: float) -> None:
    pixels = np.asarray(drawing(SEVEN), np.float32) / 255
    pixels[70, 70] = pixel
    with pytest.raises(InputError, match="infinite or not a number: expected finite values"):
        read_picture(encoded(Image.fromarray(pixels), "TIFF"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1, 255, 3e38, -1, -3e38])
def test_float_pixels_of_any_range(scale: float) -> None:
    pixels = np.asarray(drawing(SEVEN), np.float32) / 255
    shown = grey(encoded(Image.fromarray(pixels * np.float32(scale)), "TIFF"))
    np.testing.assert_allclose(shown, np.sign(scale) * pixels, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a recognised image format"),
        (b"digits", "not a recognised image format"),
        (b"%!PS-Adobe-3.0\n", "not a recognised image format"),  # Pillow would run a program for it
        (encoded(drawing(SEVEN)).getvalue()[:150], "cannot be read"),
    ],
)
def test_an_unusable_file_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_picture(io.BytesIO(content))


def test_a_huge_picture_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = encoded(Image.new("1", (30_000, 3_400)))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match="30000 x 3400 pixels: expected at most 100,000,000"):
        read_picture(bomb)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_picture(tmp_path / "none.png")
