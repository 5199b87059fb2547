"""Find digits in generated drawings and turn them into images like MNIST's."""

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.errors import InputError
from mnist_cnn.reading import pictures
from mnist_cnn.reading.pictures import as_mnist, find_digits, find_ink, group_strokes, read_grey

Pixels = npt.NDArray[np.uint8]
SEVEN = [(20, 20), (60, 20), (30, 90)]


def drawing(*strokes: list[tuple[int, int]], size: tuple[int, int] = (120, 120)) -> Image.Image:
    """Black strokes on white, 8 pixels wide."""
    picture = Image.new("L", size, 255)
    for stroke in strokes:
        ImageDraw.Draw(picture).line(stroke, fill=0, width=8, joint="curve")
    return picture


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    file.seek(0)
    return file


def seen(picture: Image.Image, kind: str = "PNG", **options: Any) -> npt.NDArray[np.float32]:
    (digit,) = find_digits(encoded(picture, kind, **options))
    return digit.image[..., 0]


def difference(picture: Image.Image, kind: str = "PNG", **options: Any) -> float:
    """Return the mean difference from the image of the same strokes in plain black on white."""
    return float(np.abs(seen(picture, kind, **options) - seen(drawing(SEVEN))).mean())


def test_a_digit_fits_20_pixels_and_its_centre_of_mass_the_centre() -> None:
    for place in ((0, 0), (300, 20), (10, 250)):
        picture = Image.new("L", (420, 400), 255)
        picture.paste(drawing(SEVEN), place)
        image = seen(picture)
        rows, columns = np.nonzero(image)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        masses = image.sum(axis=1) @ np.arange(28), image.sum(axis=0) @ np.arange(28)
        np.testing.assert_allclose(np.array(masses) / image.sum(), 14, atol=0.51)
        np.testing.assert_allclose(image, seen(drawing(SEVEN)), atol=0.35)


def test_mnist_itself_stays_nearly_unchanged() -> None:
    images = load_mnist().train_images[:300]
    found = [255 * seen(Image.fromarray(image)) for image in images]
    assert np.abs(np.stack(found) - images).mean() < 1


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
    assert np.abs(find_digits(file)[0].image[..., 0] - seen(drawing(SEVEN))).mean() < 0.03


@pytest.mark.parametrize(
    ("ink", "background"),
    [
        ((255, 255, 255), (0, 0, 0)),
        ((255, 240, 0), (255, 255, 255)),  # yellow looks as light as paper
        ((0, 0, 160), (200, 200, 210)),
        ((250, 90, 90), (60, 90, 60)),
    ],
)
def test_any_two_colours(ink: tuple[int, ...], background: tuple[int, ...]) -> None:
    share = (np.asarray(drawing(SEVEN), np.float64) / 255)[..., np.newaxis]
    colours = share * np.array(background) + (1 - share) * np.array(ink)
    assert difference(Image.fromarray(colours.astype(np.uint8))) < 0.01


@pytest.mark.parametrize("ink", [0, 255])
def test_ink_on_a_transparent_background(ink: int) -> None:
    opacity = Image.fromarray(255 - np.asarray(drawing(SEVEN)))
    picture = Image.new("LA", opacity.size, (ink, 0))
    picture.putalpha(opacity)
    assert difference(picture) < 0.01


def test_uneven_light_and_noise() -> None:
    light = np.linspace(1, 0.4, 120) * np.linspace(1, 0.8, 120)[:, np.newaxis]
    noise = np.random.default_rng(0).normal(0, 8, (120, 120))
    photo = np.asarray(drawing(SEVEN)) * light * 0.8 + 30 + noise
    assert difference(Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8))) < 0.01


def test_a_rotated_photograph_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    turned = drawing(SEVEN).transpose(Image.Transpose.ROTATE_90)
    (digit,) = find_digits(encoded(turned, "JPEG", exif=exif, quality=95))
    assert np.abs(digit.image[..., 0] - seen(drawing(SEVEN))).mean() < 0.01
    np.testing.assert_allclose(digit.box, find_digits(encoded(drawing(SEVEN)))[0].box, atol=1)


def test_boxes_of_a_reduced_picture_are_in_its_own_pixels() -> None:
    large = drawing(SEVEN).resize((3000, 3000))
    (digit,), (small,) = find_digits(encoded(large)), find_digits(encoded(drawing(SEVEN)))
    np.testing.assert_allclose(np.array(digit.box) / 25, small.box, atol=1.5)


@pytest.mark.parametrize("width", [1, 3, 30])
def test_thin_strokes_become_as_thick_as_mnists(width: int) -> None:
    picture = Image.new("L", (400, 400), 255)
    ImageDraw.Draw(picture).line([(200, 30), (200, 370)], fill=0, width=width)
    image = seen(picture)
    assert image.max() == 1
    assert 1.2 < image.sum(axis=1)[image.sum(axis=1) > 0].mean() < 2.6


def test_specks_are_left_out() -> None:
    clean, dirty = drawing(SEVEN), drawing(SEVEN, [(100, 100), (102, 102)])
    np.testing.assert_allclose(seen(dirty), seen(clean), atol=0.05)


def boxes(*strokes: list[tuple[int, int]], size: tuple[int, int] = (420, 420)) -> list[Any]:
    return [digit.box for digit in find_digits(encoded(drawing(*strokes, size=size)), True)]


def moved(x: int, y: int) -> list[tuple[int, int]]:
    return [(a + x, b + y) for a, b in SEVEN]


def test_several_digits_in_reading_order() -> None:
    places = [(10, 10), (110, 25), (210, 0), (10, 150), (110, 165), (300, 300)]
    found = boxes(*(moved(x, y) for x, y in reversed(places)))
    assert len(found) == len(places)
    for (left, top, _, _), (x, y) in zip(found, places, strict=True):
        assert abs(left - x - 20) < 8
        assert abs(top - y - 20) < 8


def test_a_column_of_digits() -> None:
    tops = [box[1] for box in boxes(moved(0, 300), moved(10, 200), moved(0, 100), moved(5, 0))]
    assert tops == sorted(tops)
    assert len(tops) == 4


def test_strokes_that_belong_together_stay_together() -> None:
    bar = [(24, 20), (70, 20)]
    rest = [(24, 36), (24, 60), (60, 70), (60, 100), (20, 110)]  # of a 5
    assert len(boxes(bar, rest, moved(100, 10))) == 2
    crossing = [(40, 55), (50, 55)]  # the dash of a 7, beside its stroke
    assert len(boxes(SEVEN, crossing)) == 1


def test_without_multiple_all_is_one_digit() -> None:
    both = drawing(SEVEN, moved(80, 0), size=(200, 120))
    assert len(find_digits(encoded(both))) == 1
    assert len(find_digits(encoded(both), multiple=True)) == 2


def test_a_stroke_inside_another_belongs_to_it() -> None:
    ring = [(20, 20), (80, 20), (80, 90), (20, 90), (20, 20)]
    dot = [(45, 50), (55, 60)]
    assert len(boxes(ring, dot, moved(100, 0))) == 2


def grid_of_marks(rows: int) -> npt.NDArray[np.bool_]:
    """`rows` x `rows` separate marks, 7 pixels square and 14 apart."""
    mask = np.zeros((14 * rows, 14 * rows), bool)
    mask.reshape(rows, 14, rows, 14)[:, :7, :, :7] = True
    return mask


def test_thousands_of_marks_take_seconds() -> None:
    """Nearly MAX_PARTS marks, which would take minutes if each pair was compared in Python."""
    start = time.process_time()
    labels, found = group_strokes(grid_of_marks(70), multiple=True)
    assert time.process_time() - start < 30
    assert len(found) == 4900
    np.testing.assert_array_equal(labels[::14, ::14].ravel(), np.arange(1, 4901))


def test_too_many_marks_are_refused_before_they_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pictures, "_join_parts", lambda *_: pytest.fail("they were compared"))
    page = Image.fromarray(~grid_of_marks(71))
    message = "shows 5,041 separate marks: expected at most 5,000; crop it to fewer digits"
    with pytest.raises(InputError, match=message):
        find_digits(encoded(page), multiple=True)
    assert len(find_digits(encoded(page))) == 1


@pytest.mark.parametrize("pixel", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_refused(pixel: float) -> None:
    pixels = np.asarray(drawing(SEVEN), np.float32) / 255
    pixels[70, 70] = pixel
    with pytest.raises(InputError, match="infinite or not a number: expected finite values"):
        find_digits(encoded(Image.fromarray(pixels), "TIFF"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1, 255, 3e38, -1, -3e38])
def test_float_pixels_of_any_range(scale: float) -> None:
    pixels = np.asarray(drawing(SEVEN), np.float32) / 255 * np.float32(scale)
    file = encoded(Image.fromarray(pixels), "TIFF")
    assert np.abs(read_grey(file)[0]).max() == 1
    assert np.abs(find_digits(file)[0].image[..., 0] - seen(drawing(SEVEN))).mean() < 0.03


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (2, 100), (100, 2), (1, 1), (57, 57)])
def test_a_blank_picture_of_any_size_shows_no_digits(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="shows no digits"):
        find_digits(encoded(Image.new("L", size, 255)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a recognised image format"),
        (b"digits", "not a recognised image format"),
        (b"%!PS-Adobe-3.0\n", "not a recognised image format"),  # Pillow would run a program for it
        (encoded(drawing(SEVEN)).getvalue()[:150], "cannot be read"),
        (encoded(Image.new("L", (1, 1))).getvalue(), "shows no digits"),
        (encoded(Image.new("L", (50, 50), 120)).getvalue(), "shows no digits"),
        (encoded(Image.new("LA", (50, 50))).getvalue(), "shows no digits"),
    ],
)
def test_an_unusable_picture_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_digits(io.BytesIO(content))


def test_noise_shows_no_digits() -> None:
    noise = np.random.default_rng(1).normal(128, 20, (300, 300))
    with pytest.raises(InputError, match="shows no digits"):
        find_digits(encoded(Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))))


def test_a_huge_picture_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = encoded(Image.new("1", (30_000, 3_400)))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match="30000 x 3400 pixels: expected at most 100,000,000"):
        find_digits(bomb)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        find_digits(tmp_path / "none.png")


def test_an_empty_picture_has_no_ink() -> None:
    assert not find_ink(np.full((40, 40), 0.5, np.float32)).any()
    numbers, found = group_strokes(np.zeros((9, 9), bool), multiple=True)
    assert not numbers.any()
    assert found.shape == (0, 4)
    assert as_mnist(np.ones((1, 1), np.float32)).max() == 1
