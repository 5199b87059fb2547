"""Group strokes into digits, and turn digits into images like MNIST's."""

import time

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.errors import InputError
from mnist_cnn.reading import strokes
from mnist_cnn.reading.ink import Grey, Mask
from mnist_cnn.reading.scaling import as_mnist
from mnist_cnn.reading.strokes import group_strokes, reading_order
from tests.reading.helpers import SEVEN, Stroke, drawing

BOTH_SHAPES = pytest.mark.parametrize("shape", [(28, 28), (28, 56)])


def ink(picture: Image.Image) -> Grey:
    return np.asarray(1 - np.asarray(picture) / 255, np.float32)


@BOTH_SHAPES
@pytest.mark.parametrize("place", [(0, 0), (300, 20), (10, 250)])
def test_a_digit_fits_20_pixels_and_its_centre_of_mass_the_centre(
    place: tuple[int, int], shape: tuple[int, int]
) -> None:
    picture = Image.new("L", (420, 400), 255)
    picture.paste(drawing(SEVEN), place)
    image = as_mnist(ink(picture), shape)[..., 0]
    assert image.shape == shape
    rows, columns = np.nonzero(image)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    masses = image.sum(axis=1) @ np.arange(28), image.sum(axis=0) @ np.arange(shape[1])
    np.testing.assert_allclose(np.array(masses) / image.sum(), np.array(shape) / 2, atol=0.51)


def test_two_digits_fit_a_wide_image() -> None:
    pair = ink(drawing(SEVEN, moved(50, 0), size=(200, 120)))
    rows, columns = np.nonzero(as_mnist(pair, (28, 56))[..., 0])
    assert np.ptp(rows) + 1 == 20
    assert np.ptp(columns) + 1 == 26


def test_mnist_itself_stays_nearly_unchanged() -> None:
    images = load_mnist().train_images[:300]
    prepared = [as_mnist(image.astype(np.float32) / 255)[..., 0] for image in images]
    assert np.abs(255 * np.stack(prepared) - images).mean() < 1


@pytest.mark.parametrize("width", [1, 3, 30])
def test_thin_strokes_become_as_thick_as_mnists(width: int) -> None:
    picture = Image.new("L", (400, 400), 255)
    ImageDraw.Draw(picture).line([(200, 30), (200, 370)], fill=0, width=width)
    image = as_mnist(ink(picture))[..., 0]
    assert image.max() == 1
    assert 1.2 < image.sum(axis=1)[image.sum(axis=1) > 0].mean() < 2.6


def test_a_single_pixel_is_ink() -> None:
    assert as_mnist(np.ones((1, 1), np.float32)).max() == 1


def boxes(
    *strokes: Stroke, size: tuple[int, int] = (420, 420), multiple: bool = True
) -> npt.NDArray[np.int32]:
    return group_strokes(ink(drawing(*strokes, size=size)) > 0.5, multiple)[1]


def moved(x: int, y: int) -> Stroke:
    return [(a + x, b + y) for a, b in SEVEN]


def in_order(boxes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    return boxes[reading_order(boxes[:, [1, 0, 3, 2]].tolist())]


def test_several_digits_in_reading_order() -> None:
    places = [(10, 10), (110, 25), (210, 0), (10, 150), (110, 165), (300, 300)]
    found = in_order(boxes(*(moved(x, y) for x, y in reversed(places))))
    assert len(found) == len(places)
    for (top, left, _, _), (x, y) in zip(found, places, strict=True):
        assert abs(left - x - 20) < 8
        assert abs(top - y - 20) < 8


def test_lines_may_slope() -> None:
    places = [
        (100 * column, 250 * line - 35 * column + 150) for line in (0, 1) for column in range(5)
    ]
    found = in_order(boxes(*(moved(x, y) for x, y in reversed(places)), size=(600, 600)))
    for (top, left, _, _), (x, y) in zip(found, places, strict=True):
        np.testing.assert_allclose((top, left), (y + 20, x + 20), atol=8)


def test_a_column_of_digits() -> None:
    found = in_order(boxes(moved(0, 300), moved(10, 200), moved(0, 100), moved(5, 0)))
    assert found[:, 0].tolist() == sorted(found[:, 0])
    assert len(found) == 4


def test_strokes_that_belong_together_stay_together() -> None:
    bar = [(24, 20), (70, 20)]
    rest = [(24, 36), (24, 60), (60, 70), (60, 100), (20, 110)]  # of a 5
    assert len(boxes(bar, rest, moved(100, 10))) == 2
    crossing = [(40, 55), (50, 55)]  # the dash of a 7, beside its stroke
    assert len(boxes(SEVEN, crossing)) == 1


def test_a_bar_belongs_to_the_digit_below_it() -> None:
    rest = [(24, 36), (24, 60), (60, 70), (60, 100), (20, 110)]  # of a 5
    bar = [(24, 18), (78, 18)]  # reaches to the next digit, which is taller
    zero = [(90, 5), (140, 5), (140, 115), (90, 115), (90, 5)]
    found = in_order(boxes(bar, rest, zero))
    np.testing.assert_allclose(found[:, 1], (20, 86), atol=4)


def test_a_digit_of_two_parts_may_be_the_tallest() -> None:
    upper = [(70, 20), (24, 20), (24, 55)]  # of a 5
    lower = [(24, 70), (60, 75), (60, 105), (20, 112)]
    seven = [(110, 30), (150, 30), (120, 112)]
    assert len(boxes(upper, lower, seven)) == 2


def test_two_halves_of_a_broken_digit_belong_together() -> None:
    upper = [(24, 40), (60, 20), (60, 42)]  # of a 3
    lower = [(30, 66), (70, 66), (60, 110), (20, 112)]
    seven = [(110, 20), (150, 20), (120, 112)]
    assert len(boxes(upper, lower, seven)) == 2


def test_without_multiple_all_is_one_digit() -> None:
    assert len(boxes(SEVEN, moved(80, 0), multiple=False)) == 1
    assert len(boxes(SEVEN, moved(80, 0))) == 2


@pytest.mark.parametrize("multiple", [False, True])
def test_specks_are_left_out(multiple: bool) -> None:
    speck = [(100, 100), (102, 102)]
    labels, found = group_strokes(ink(drawing(SEVEN, speck)) > 0.5, multiple)
    assert found.tolist() == boxes(SEVEN).tolist()
    assert not labels[95:107, 95:107].any()


def test_a_stroke_inside_another_belongs_to_it() -> None:
    ring = [(20, 20), (80, 20), (80, 90), (20, 90), (20, 20)]
    dot = [(45, 50), (55, 60)]
    assert len(boxes(ring, dot, moved(100, 0))) == 2


def grid_of_marks(rows: int) -> Mask:
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
    monkeypatch.setattr(strokes, "_join_parts", lambda *_: pytest.fail("they were compared"))
    message = "shows 5,041 separate marks: expected at most 5,000; crop it to fewer digits"
    with pytest.raises(InputError, match=message):
        group_strokes(grid_of_marks(71), multiple=True)
    assert len(group_strokes(grid_of_marks(71), multiple=False)[1]) == 1


def test_without_ink_there_are_no_digits() -> None:
    labels, found = group_strokes(np.zeros((9, 9), bool), multiple=True)
    assert not labels.any()
    assert found.shape == (0, 4)
