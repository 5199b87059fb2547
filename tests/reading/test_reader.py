"""Read the digits in pictures, with the packaged network or with networks that know one answer."""

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.errors import InputError
from mnist_cnn.model.formats import Model
from mnist_cnn.model.formats.base import ImageBatch, Probabilities
from mnist_cnn.reading import reader as reading
from mnist_cnn.reading.reader import READER, Answer, load_reader, read_digits
from tests.reading.helpers import (
    OTHER,
    PAIR_72,
    SEVEN,
    SHEET,
    ZERO,
    Pixels,
    Stroke,
    always,
    drawing,
    encoded,
    photograph,
)

TWO_DIGITS = "two digits: read several with --multiple"


@cache
def reader() -> Model:
    return load_reader(READER)


@cache
def glyph(digit: int) -> Pixels:
    """An image of MNIST that the packaged network is sure of."""
    mnist = load_mnist()
    images = mnist.test_images[mnist.test_labels == digit][:20]
    wide = np.pad(images[..., np.newaxis] / np.float32(255), ((0, 0), (0, 0), (14, 14), (0, 0)))
    return np.asarray(images[reader()(wide)[:, digit].argmax()])


def answers(model: Model, picture: Image.Image, multiple: bool = False) -> list[Answer]:
    return read_digits(model, encoded(picture), multiple).answers


def seen(picture: Image.Image) -> npt.NDArray[np.float32]:
    (answer,) = answers(ZERO, picture)
    return answer.image[..., 0]


def difference(picture: Image.Image) -> float:
    """Return the mean difference from the image of the same strokes in plain black on white."""
    return float(np.abs(seen(picture) - seen(drawing(SEVEN))).mean())


def moved(x: int, y: int) -> Stroke:
    return [(a + x, b + y) for a, b in SEVEN]


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


def test_uneven_light_and_noise() -> None:
    light = np.linspace(1, 0.4, 120) * np.linspace(1, 0.8, 120)[:, np.newaxis]
    noise = np.random.default_rng(0).normal(0, 8, (120, 120))
    photo = np.asarray(drawing(SEVEN)) * light * 0.8 + 30 + noise
    assert difference(Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8))) < 0.01


def test_specks_are_left_out() -> None:
    assert difference(drawing(SEVEN, [(100, 100), (102, 102)])) < 0.001


def test_boxes_are_in_the_pixels_of_the_upright_picture() -> None:
    (small,) = answers(ZERO, drawing(SEVEN))
    np.testing.assert_allclose(small.box, (16, 16, 64, 94), atol=4)
    (large,) = answers(ZERO, drawing(SEVEN).resize((3000, 3000)))
    np.testing.assert_allclose(np.array(large.box) / 25, small.box, atol=1.5)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    turned = drawing(SEVEN).transpose(Image.Transpose.ROTATE_90)
    (upright,) = read_digits(ZERO, encoded(turned, "JPEG", exif=exif, quality=95)).answers
    np.testing.assert_allclose(upright.box, small.box, atol=1)


def test_a_network_for_single_digits_sees_mnists_images() -> None:
    (answer,) = answers(always(3, classes=10), drawing(SEVEN))
    assert (answer.digit, answer.confidence, answer.sure, answer.reason) == (3, 1, True, None)
    assert answer.image.shape == (28, 28, 1)
    assert answers(ZERO, drawing(SEVEN))[0].image.shape == (28, 56, 1)


def test_a_doubtful_answer_is_not_sure() -> None:
    row = np.array([[0.89, 0.11, *[0] * 8]], np.float32)
    (answer,) = answers(Model((28, 28, 1), lambda _: row), drawing(SEVEN))
    assert answer.digit == 0
    assert answer.confidence == pytest.approx(0.89)
    assert not answer.sure


def test_a_pair_is_cut_into_two_digits() -> None:
    touching = drawing(SEVEN, moved(60, 0), [(40, 60), (110, 60)], size=(150, 120))
    first, second = answers(PAIR_72, touching, multiple=True)
    assert (first.digit, second.digit) == (7, 2)
    assert first.image is second.image
    assert first.probabilities.tolist() == np.eye(10)[7].tolist()
    assert second.probabilities.tolist() == np.eye(10)[2].tolist()
    assert first.box[0] < first.box[2] == second.box[0] < second.box[2]
    assert first.box[1::2] == second.box[1::2]


def test_a_pair_needs_multiple() -> None:
    (answer,) = answers(PAIR_72, drawing(SEVEN))
    assert (answer.digit, answer.sure, answer.reason) == (None, False, TWO_DIGITS)


@pytest.mark.parametrize("one", [0.2, 0.095])
def test_in_a_row_one_digit_is_more_likely_than_two(one: float) -> None:
    row = np.zeros(111, np.float32)
    row[[7, 10 + 17]] = one, 1 - one
    model = Model((28, 56, 1), lambda images: np.tile(row, (len(images), 1)))
    (answer,) = answers(model, drawing(SEVEN), multiple=True)
    assert (answer.digit, answer.sure) == (7, False)


def test_a_mark_among_digits_is_refused_only_with_certainty() -> None:
    (digit,) = answers(ZERO, drawing(SEVEN))
    probabilities = np.array([0, 0, 0, 0.04, *[0] * 6], np.float32)
    doubtful = digit._replace(
        digit=None, confidence=0.96, probabilities=probabilities, reason="not a digit"
    )
    certain = doubtful._replace(confidence=0.995)

    def judged(*marks: Answer) -> list[int | None]:
        return [answer.digit for answer in reading._judge_together([*marks])]

    assert judged(digit, doubtful, digit) == [0, 3, 0]
    assert judged(digit, certain, digit) == [0, None, 0]
    assert judged(doubtful, digit, doubtful) == [None, 0, None]
    tall = doubtful._replace(box=(80, 0, 90, 900))
    assert reading._judge_together([digit, tall, digit])[1] == tall


def test_what_is_small_beside_digits_is_left_out_unless_it_is_surely_one() -> None:
    (digit,) = answers(ZERO, drawing(SEVEN))
    small = digit._replace(box=(80, 60, 90, 90))
    assert reading._judge_together([digit, small]) == [digit, small]
    assert reading._judge_together([digit, small._replace(confidence=0.8)]) == [digit]


@pytest.mark.parametrize("multiple", [False, True])
def test_what_is_not_a_digit_is_refused(multiple: bool) -> None:
    (answer,) = answers(OTHER, drawing(SEVEN), multiple)
    assert (answer.digit, answer.sure, answer.reason) == (None, False, "not a digit")
    assert answer.confidence == 1
    assert answer.probabilities.tolist() == [0] * 10


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (2, 100), (100, 2), (1, 1), (57, 57)])
@pytest.mark.filterwarnings("error")
def test_a_blank_picture_of_any_size_shows_no_digits(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="shows no digits"):
        answers(ZERO, Image.new("L", size, 255))


def test_a_page_full_of_marks_is_read_in_one_way() -> None:
    page = np.full((40, 25, 40, 25), 255, np.uint8)
    page[:, 5:20, :, 5:15] = 0
    images = []

    def predict_batch(batch: ImageBatch) -> Probabilities:
        images.append(len(batch))
        return OTHER.predict_batch(batch)

    model = Model(OTHER.image_shape, predict_batch)
    assert len(answers(model, Image.fromarray(page.reshape(1000, 1000)), multiple=True)) == 1600
    assert sum(images) == 1600


def test_noise_shows_no_digits() -> None:
    noise = np.random.default_rng(1).normal(128, 20, (300, 300))
    with pytest.raises(InputError, match="shows no digits"):
        answers(ZERO, Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)))


def test_too_many_marks_are_refused() -> None:
    page = np.full((71, 14, 71, 14), 255, np.uint8)
    page[:, :7, :, :7] = 0
    picture = Image.fromarray(page.reshape(994, 994))
    with pytest.raises(InputError, match="shows 5,041 separate marks: expected at most 5,000"):
        answers(ZERO, picture, multiple=True)
    assert len(answers(ZERO, picture)) == 1


# With the packaged network


@pytest.mark.parametrize("digit", range(10))
def test_a_sheet_on_a_desk_is_found_and_read(digit: int) -> None:
    reading = read_digits(reader(), encoded(photograph(glyph(digit), 900, 700)))
    assert reading.sheet is not None
    np.testing.assert_allclose(reading.sheet, SHEET * (900, 700), atol=9)
    (answer,) = reading.answers
    assert answer.digit == digit
    left, top, right, bottom = answer.box
    assert 380 < left < right < 560
    assert 240 < top < bottom < 420


def touching(left: int, right: int) -> Image.Image:
    """Two digits side by side that form one connected mark."""
    halves = [glyph(left), glyph(right)]
    cropped = [half[:, np.flatnonzero(half.max(axis=0) > 100)] for half in halves]
    overlap = 3
    width = sum(half.shape[1] for half in cropped) - overlap
    ink = np.zeros((28, width), np.uint8)
    ink[:, : cropped[0].shape[1]] = cropped[0]
    ink[:, -cropped[1].shape[1] :] = np.maximum(ink[:, -cropped[1].shape[1] :], cropped[1])
    paper = Image.fromarray(np.pad(255 - ink, 10, constant_values=255))
    return paper.resize((paper.width * 6, paper.height * 6), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(("left", "right"), [(2, 0), (3, 5), (6, 4), (8, 9)])
def test_touching_digits_are_read_as_two(left: int, right: int) -> None:
    first, second = answers(reader(), touching(left, right), multiple=True)
    assert (first.digit, second.digit) == (left, right)
    assert first.image is second.image
    (refused,) = answers(reader(), touching(left, right))
    assert (refused.digit, refused.reason) == (None, TWO_DIGITS)


LETTERS: dict[str, list[Stroke]] = {
    "K": [[(30, 20), (30, 100)], [(80, 20), (30, 65)], [(45, 55), (85, 100)]],
    "M": [[(20, 100), (25, 20), (60, 80), (95, 20), (100, 100)]],
    "asterisk": [[(20, 20), (100, 100)], [(100, 20), (20, 100)], [(60, 10), (60, 110)]],
    "zigzag": [[(10, 60), (25, 20), (35, 95), (50, 25), (60, 100), (75, 20), (85, 90), (105, 30)]],
}


@pytest.mark.parametrize("multiple", [False, True])
@pytest.mark.parametrize("letter", LETTERS)
def test_letters_and_scribbles_are_refused(letter: str, multiple: bool) -> None:
    (answer,) = answers(reader(), drawing(*LETTERS[letter]), multiple)
    assert (answer.digit, answer.reason) == (None, "not a digit")
    assert answer.confidence > 0.5


def test_a_sheet_that_cuts_a_digit_does_not_win(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Image.new("L", (900, 600), 200)
    for place in (20, 170, 320, 470):  # something else beside the sheet
        desk.paste(drawing(*LETTERS["asterisk"]).resize((80, 80)), (10, place))
    desk.paste(235, (100, 60, 800, 540))
    for number, digit in enumerate([2, 0, 6]):
        mask = Image.fromarray(glyph(digit)).resize((112, 112), Image.Resampling.BICUBIC)
        desk.paste(20, (250 + 130 * number, 240), mask)
    whole = np.array([(100, 60), (800, 60), (800, 540), (100, 540)], np.float32)
    cut = whole.copy()
    cut[1:3, 0] = 560
    monkeypatch.setattr(reading, "find_sheets", lambda _: [cut, whole])
    read = answers(reader(), desk, multiple=True)
    assert [answer.digit for answer in read] == [2, 0, 6]


def test_a_doubtful_digit_more_does_not_replace_a_sheet_that_is_surely_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (two,) = answers(always(2), drawing(SEVEN))
    doubtful = two._replace(confidence=0.7)
    reads = iter([([], False), ([two, two], False), ([two, two, doubtful], False)])
    monkeypatch.setattr(reading, "_read_view", lambda *_: next(reads))
    whole = np.array([(0, 0), (120, 0), (120, 120), (0, 120)], np.float32)
    monkeypatch.setattr(reading, "find_sheets", lambda _: [whole, whole])
    assert len(answers(ZERO, drawing(SEVEN), multiple=True)) == 2


def test_a_row_on_ruled_paper_beside_a_margin() -> None:
    paper = Image.new("RGB", (700, 500), (235, 235, 235))
    rules = [(0, y, 700, y) for y in range(20, 500, 40)]
    for line in [*rules, (60, 0, 60, 500)]:
        ImageDraw.Draw(paper).line(line, (130, 165, 230), 3)
    for number, digit in enumerate([2, 0, 1, 6]):
        mask = Image.fromarray(glyph(digit)).resize((84, 84), Image.Resampling.BICUBIC)
        paper.paste((190, 40, 50), (130 + 110 * number, 208), mask)
    read = answers(reader(), paper, multiple=True)
    assert [answer.digit for answer in read] == [2, 0, 1, 6]


@pytest.mark.parametrize(("beside", "expected"), [(60, [2, 0, 6]), (235, [2, 0, 6, 1])])
def test_a_line_along_an_edge_is_not_a_one(
    monkeypatch: pytest.MonkeyPatch, beside: int, expected: list[int]
) -> None:
    paper = Image.new("L", (700, 500), 235)
    ink = Image.new("L", paper.size)
    for number, digit in enumerate([2, 0, 6]):
        mask = Image.fromarray(glyph(digit)).resize((84, 84), Image.Resampling.BICUBIC)
        paper.paste(20, (130 + 110 * number, 208), mask)
        ink.paste(255, (130 + 110 * number, 208), mask)
    paper.paste(beside, (600, 0, 700, 500))
    for picture, grey in ((paper, 20), (ink, 255)):
        ImageDraw.Draw(picture).line((595, 210, 605, 290), grey, 8)
    monkeypatch.setattr(reading, "find_ink", lambda *_: np.asarray(ink, np.float32) / 255)
    monkeypatch.setattr(reading, "find_sheets", lambda _: [])
    read = answers(reader(), paper, multiple=True)
    assert [answer.digit for answer in read] == expected


def test_a_dot_does_not_start_a_line() -> None:
    paper = Image.new("L", (500, 300), 235)
    for digit, place in ((2, (50, 100)), (0, (230, 135)), (6, (360, 100))):
        mask = Image.fromarray(glyph(digit)).resize((112, 112), Image.Resampling.BICUBIC)
        paper.paste(20, place, mask)
    ImageDraw.Draw(paper).ellipse((206, 206, 218, 220), 20)
    read = answers(reader(), paper, multiple=True)
    assert [answer.digit for answer in read] == [2, 0, 6]


def test_a_faint_margin_in_pieces_is_not_a_row_of_ones() -> None:
    paper = Image.new("L", (700, 500), 235)
    draw = ImageDraw.Draw(paper)
    draw.line((60, 0, 60, 500), 190, 4)
    for top in range(10, 480, 60):
        draw.line((60, top, 60, top + 45), 20, 4)
    for number, digit in enumerate([2, 0, 1, 6]):
        mask = Image.fromarray(glyph(digit)).resize((84, 84), Image.Resampling.BICUBIC)
        paper.paste(20, (130 + 110 * number, 208), mask)
    read = answers(reader(), paper, multiple=True)
    assert [answer.digit for answer in read] == [2, 0, 1, 6]
