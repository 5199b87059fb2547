"""Draw how pictures were read."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Patch, Polygon, Rectangle

from mnist_cnn.reading.classify import Classification
from mnist_cnn.reading.explain import CUT, DIGIT, MOST_MARKS, REFUSED, SHEET, draw_explanation
from mnist_cnn.reading.reader import Answer, Box, Reading
from tests.reading.helpers import SHEET as CORNERS

PICTURE = np.full((50, 100, 3), 0.5, np.float32)  # of one with 200 x 100 pixels


def answer(digit: int | None, box: Box, share: float = 1.0, reason: str | None = None) -> Answer:
    shares = np.zeros(10, np.float32)
    shares[digit or 0] = 0 if digit is None else share
    return Answer(digit, share, shares, np.zeros((28, 56, 1), np.float32), box, reason)


def draw(*answers: Answer) -> list[Axes]:
    figure = draw_explanation(Reading(list(answers), PICTURE, 2.0, None))
    figure.draw_without_rendering()
    return figure.axes


def rectangles(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def colour(patch: Patch) -> str:
    return to_hex(patch.get_edgecolor())


def test_digits_and_refused_marks_are_boxed() -> None:
    picture, *_ = draw(
        answer(4, (20, 10, 40, 50)), answer(None, (60, 20, 90, 50), reason="not a digit")
    )
    digit, refused = rectangles(picture)
    assert (colour(digit), digit.get_linestyle()) == (to_hex(DIGIT), "-")
    assert (colour(refused), refused.get_linestyle()) == (to_hex(REFUSED), "--")
    np.testing.assert_allclose(digit.get_bbox().bounds, (20, 10, 20, 40), atol=3)
    np.testing.assert_allclose(refused.get_bbox().bounds, (60, 20, 30, 30), atol=3)
    assert picture.get_xlim() == (0, 200)
    assert picture.get_ylim() == (100, 0)
    assert [text.get_text() for text in picture.texts] == ["4", ""]


def test_probabilities_sum_to_one() -> None:
    _, _, bars = draw(answer(4, (20, 10, 40, 50), share=0.75))
    heights = [bar.get_height() for bar in rectangles(bars)]
    np.testing.assert_allclose(heights, [0, 0, 0, 0, 0.75, 0, 0, 0, 0, 0, 0.25])
    assert bars.get_title() == "read as 4, not sure"
    assert bars.get_xticklabels()[-1].get_text() == "no\ndigit"


@pytest.mark.parametrize("reason", ["not a digit", "two digits: read several with --multiple"])
def test_a_refusal_says_why(reason: str) -> None:
    _, _, bars = draw(answer(None, (20, 10, 40, 50), reason=reason))
    assert bars.get_title() == f"refused: {reason}"


def test_a_mark_that_was_cut_is_one_box_with_the_cut() -> None:
    first = answer(6, (20, 10, 40, 50))
    second = answer(4, (40, 10, 70, 50))._replace(image=first.image)
    picture, _seen, *bars = draw(first, second)
    (box,) = rectangles(picture)
    np.testing.assert_allclose(box.get_bbox().bounds, (20, 10, 50, 40), atol=3)
    (cut,) = picture.lines
    assert cut.get_color() == CUT
    assert np.asarray(cut.get_xdata()).tolist() == [40, 40]
    assert [text.get_text() for text in picture.texts] == ["64"]
    assert [axes.get_title() for axes in bars] == ["read as 6", "read as 4"]


def test_the_sheet_is_outlined() -> None:
    sheet = CORNERS * (100, 50)
    reading = Reading([answer(4, (20, 10, 40, 50))], PICTURE, 2.0, sheet)
    patches = draw_explanation(reading).axes[0].patches
    (outline,) = (patch for patch in patches if isinstance(patch, Polygon))
    np.testing.assert_allclose(outline.get_xy()[:4], 2 * sheet, atol=1.01)
    assert colour(outline) == to_hex(SHEET)


def test_the_likeliest_classes_of_a_picture_are_drawn() -> None:
    names = [f"${number}_{{" for number in range(12)]
    shares = np.array([0.1, 0.6, *[0.03] * 10], np.float32)
    answer = Classification(shares, names, np.zeros((20, 16, 3), np.float32))
    figure = draw_explanation(answer)
    figure.draw_without_rendering()
    _, bars = figure.axes
    assert [label.get_text() for label in bars.get_yticklabels()][:2] == ["$1_{", "$0_{"]
    widths = [bar.get_width() for bar in rectangles(bars)]
    np.testing.assert_allclose(widths, [0.6, 0.1, *[0.03] * 8])
    assert bars.get_title() == "classified as $1_{, not sure"


def test_only_the_first_of_many_marks_get_a_row() -> None:
    answers = [answer(1, (i, 10, i + 1, 20)) for i in range(MOST_MARKS + 9)]
    picture, *others = draw(*answers)
    assert len(rectangles(picture)) == MOST_MARKS + 9
    assert len(others) == 2 * MOST_MARKS


def test_only_the_first_of_very_many_marks_get_a_box() -> None:
    reading = Reading([answer(1, (i, 10, i + 1, 20)) for i in range(501)], PICTURE, 2.0, None)
    assert len(rectangles(draw_explanation(reading).axes[0])) == 500
