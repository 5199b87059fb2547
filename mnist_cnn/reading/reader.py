"""Read the digits in a picture.

A picture is first read as it is. Unless all that it shows is surely digits, sheets of paper are
looked for in it, and the view that looks most like digits to the network wins.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mnist_cnn.data.pictures import File
from mnist_cnn.errors import InputError
from mnist_cnn.model.formats import MNIST, Model, load_model
from mnist_cnn.model.formats.base import Probabilities
from mnist_cnn.reading.ink import Grey, Mask, dilate, find_ink
from mnist_cnn.reading.pictures import Colours, read_picture
from mnist_cnn.reading.scaling import as_mnist
from mnist_cnn.reading.sheet import Corners, find_sheets, rectify
from mnist_cnn.reading.strokes import group_strokes, reading_order

# The reader's network tells apart the ten digits, all pairs of touching digits, and anything else.
READER = Path(__file__).with_name("reader.onnx")
SINGLE, PAIRS, OTHER = np.s_[:10], np.s_[10:110], 110
READER_INTERFACE = ((28, 56, 1), 111)

SURE = 0.9  # at least this probability
# As shares of a view's longer side: how wide strokes can be. None is for soft light only.
WIDEST_STROKES = (None, 0.1, 0.04)
# As multiples of the digits' usual height: marks that may be smaller or larger are not digits.
SMALLEST_MARK, LARGEST_MARK = 0.5, 3
MANY_MARKS = 1000  # after so many in all views, a picture isn't read in further ways
CERTAIN = 0.99  # among digits, a mark is refused with at least this probability
# A mark is two digits if they are so many times as likely as one: few digits touch, but half of
# those that the network was trained on.
PAIR_ODDS = 10
# The two sides of an edge differ by at least this share of its contrast; those of a stroke by less,
# even where a shadow ends.
EDGE_CONTRAST = 0.75
ONE_WEIGHT = 0.25  # of evidence that a view shows digits: any line looks like a one
NOT_A_DIGIT = "not a digit"
EDGE = "an edge, not a digit"
TWO_DIGITS = "two digits: read several with --multiple"

Box = tuple[int, int, int, int]  # left, top, right and bottom in pixels, the last two exclusive


class Answer(NamedTuple):
    """What a mark in a picture is: a digit, or None and the reason.

    - `confidence`: the probability of the digit, or of there being none
    - `probabilities`: of each digit, float32 [10]; with that of no digit, they sum to 1
    - `image`: what the network saw, float32 [28, W, 1] in [0, 1]
    - `box`: where it is in the upright picture
    """

    digit: int | None
    confidence: float
    probabilities: Probabilities
    image: Grey
    box: Box
    reason: str | None = None

    @property
    def sure(self) -> bool:
        return self.digit is not None and self.confidence >= SURE


class Reading(NamedTuple):
    """The answers for a picture, in reading order; the picture, reduced by the factor `reduction`;
    and the corners in it of the sheet of paper that was read, or None."""

    answers: list[Answer]
    picture: Colours
    reduction: float
    sheet: Corners | None

    @property
    def text(self) -> str:
        """The digits, with a dash for each mark that isn't one."""
        return "".join("-" if a.digit is None else str(a.digit) for a in self.answers)

    @property
    def confidence(self) -> float:
        """The lowest of all answers."""
        return min(answer.confidence for answer in self.answers)

    @property
    def doubts(self) -> list[str]:
        """Why it is not all surely digits."""
        reasons = [answer.reason or "not sure" for answer in self.answers if not answer.sure]
        return list(dict.fromkeys(reasons))

    def describe(self) -> dict[str, Any]:
        """Describe the reading in JSON's types. Each of the `digits` has the `digit` or null, its
        `confidence`, whether that is `sure`, its `box` (left, top, right and bottom) and the
        `reason` if it was refused. The `sheet` that was read is null or its four corners. Both are
        in the picture's own pixels."""
        digits = [
            {
                "digit": answer.digit,
                "confidence": round(answer.confidence, 4),
                "sure": answer.sure,
                "box": list(answer.box),
                "reason": answer.reason,
            }
            for answer in self.answers
        ]
        corners = None if self.sheet is None else (self.sheet * self.reduction).round().astype(int)
        return {"digits": digits, "sheet": None if corners is None else corners.tolist()}


class View(NamedTuple):
    """A picture or the part of it that shows a sheet, with the homography back to the picture and
    the sheet's corners in it, or None."""

    pixels: Colours
    to_picture: npt.NDArray[np.float64]
    sheet: Corners | None


class Mark(NamedTuple):
    """Ink that may be a digit: the network's image of it, its box in the view, where to cut it if
    it turns out to be two digits, and whether it runs along an edge, if there may be several."""

    image: Grey
    box: Box
    cut: int
    edge: bool


@dataclass
class Network:
    """A model, and how many marks it was asked about."""

    model: Model
    asked: int = 0

    def __call__(self, images: Grey) -> Probabilities:
        self.asked += len(images)
        return self.model(images)


def load_reader(path: Path) -> Model:
    """Load the reader's network, one that knows only MNIST's digits, or one for other pictures
    whose metadata names its classes.

    Raises:
        InputError: see `load_model`.
    """
    return load_model(path, READER_INTERFACE, MNIST, described=True)


def read_digits(model: Model, file: File, multiple: bool = False) -> Reading:
    """Read a picture's digits: all of its ink as one digit or, with `multiple`, each group of
    strokes that belong together.

    The picture must be in one of IMAGE_FORMATS. The ink may be dark on light or light on dark, in
    any colour and in uneven light.

    Raises:
        InputError: the picture can't be read, is too large, shows no ink or, with `multiple`, has
            too many connected parts.
    """
    picture, reduction = read_picture(file)
    network = Network(model)
    best: list[Answer] = []
    for view in _views(picture):
        answers, clear = _read_view(network, view, multiple)
        better = not best or _score(answers) > _score(best)
        if answers and better and (_complete(answers) or not _complete(best)):
            best, best_view = answers, view
        # Digits cut by a wrong sheet's side are erased with the shadows, except from clear ink.
        complete = _complete(best) and (clear or view.sheet is None)
        if complete or network.asked > MANY_MARKS:
            break
    if not best:
        raise InputError("it shows no digits: expected ink that stands out from the background")
    answers = _without_scenery(best, best_view.pixels.shape)
    answers = [answers[i] for i in reading_order([answer.box for answer in answers])]
    for homography in (best_view.to_picture, np.diag([reduction, reduction, 1.0])):
        answers = [answer._replace(box=_place(answer.box, homography)) for answer in answers]
    return Reading(answers, picture, reduction, best_view.sheet)


def _views(picture: Colours) -> Iterator[View]:
    """Yield the whole picture, then the sheets of paper that it may show."""
    yield View(picture, np.eye(3), None)
    for corners in find_sheets(picture):
        pixels, homography = rectify(picture, corners)
        to_picture = np.asarray(np.linalg.inv(homography), np.float64)
        yield View(np.atleast_3d(pixels), to_picture, corners)


def _read_view(network: Network, view: View, multiple: bool) -> tuple[list[Answer], bool]:
    """Find a view's ink with each of WIDEST_STROKES and read it; the first is enough if it is
    complete. Also return whether it is. Nobody writes across the edge of a sheet. Ones in what the
    first ink shows to lie inside of the view may be pieces of wide strokes, so they don't replace
    it."""
    grey = _clearest_channel(view.pixels)
    shape = view.pixels.shape
    best: list[Answer] = []
    for widest_stroke in WIDEST_STROKES:
        answers = _read_ink(network, grey, find_ink(grey, widest_stroke), multiple)
        if view.sheet is not None:
            answers = [a if _inside(a.box, shape) else _refuse(a) for a in answers]
        pieces = _only_ones(answers) and all(_inside(answer.box, shape) for answer in best)
        if answers and (not best or (_score(answers) > _score(best) and not pieces)):
            best = answers
        if widest_stroke is None and _complete(best):
            return best, True
        if network.asked > MANY_MARKS:
            break
    return best, False


def _clearest_channel(view: Colours) -> Grey:
    """Return the channel with the most contrast. The fourth power lets a few pixels of ink count
    more than many of a paper's pale rules."""
    squares = np.square(view - view.mean(axis=(0, 1)))
    return view[..., np.square(squares).mean(axis=(0, 1)).argmax()]


def _read_ink(network: Network, grey: Grey, ink: Grey, multiple: bool) -> list[Answer]:
    marks = list(_find_marks(grey, ink, multiple, network.model.image_shape[:2]))
    if not marks:
        return []
    rows = network(np.stack([mark.image for mark in marks]))
    answers = [
        answer
        for mark, row in zip(marks, rows, strict=True)
        for answer in _interpret(mark, row, multiple)
    ]
    if multiple:
        return _judge_together(answers)
    if answers[0].digit is None:  # perhaps because of a shadow
        parts = _without_scenery(_read_ink(network, grey, ink, multiple=True), ink.shape)
        if len(parts) == 1 and parts[0].sure:
            return parts
    return answers


def _find_marks(
    grey: Grey, ink: Grey, multiple: bool, image_shape: tuple[int, ...]
) -> Iterator[Mark]:
    labels, boxes = group_strokes(ink > 0.5, multiple)
    for label, (top, left, bottom, right) in enumerate(boxes.tolist(), start=1):
        # Soft edges, where ink is at most 0.5, lie outside the box.
        window = np.s_[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2]
        mask = labels[window] == label
        own = np.where(dilate(mask), ink[window], np.float32(0))
        quarter = (right - left) // 4
        middle = own.sum(axis=0)[quarter : own.shape[1] - quarter]
        cut = left + quarter + int(middle.argmin())
        image = as_mnist(own, (image_shape[0], image_shape[1]))
        edge = multiple and _is_edge(grey, mask, window[1].start, window[0].start)
        yield Mark(image, (left, top, right, bottom), cut, edge)


def _is_edge(grey: Grey, mask: Mask, left: int, top: int) -> bool:
    """Return whether the ink in `mask` [h, w], whose corner is at `left` and `top`, runs along an
    edge, such as a sheet's: what is left of it is much lighter or darker than what is right."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    before = np.median(grey[top + rows, np.maximum(left + first - 4, 0)])
    after = np.median(grey[top + rows, np.minimum(left + last + 3, grey.shape[1] - 1)])
    ink = np.median(grey[top : top + mask.shape[0], left : left + mask.shape[1]][mask])
    return bool(abs(before - after) > EDGE_CONTRAST * max(abs(ink - before), abs(ink - after)))


def _judge_together(answers: list[Answer]) -> list[Answer]:
    """Judge the answers by the sure digits among them. What is much smaller is left out, such as a
    dot, and what is much taller is not a digit. If most are sure digits, a mark that was refused
    without certainty is likely a digit, too."""
    heights = np.sort([_height(answer) for answer in answers if answer.sure])
    if not len(heights):
        return answers
    usual = heights[(len(heights) - 1) // 2]
    answers = [a for a in answers if a.sure or _height(a) >= SMALLEST_MARK * usual]
    mostly_digits = len(heights) > len(answers) / 2

    def judge(answer: Answer) -> Answer:
        if _height(answer) > LARGEST_MARK * usual:
            return _refuse(answer)
        doubtful = answer.reason == NOT_A_DIGIT and answer.confidence < CERTAIN
        if mostly_digits and doubtful:
            return _digit(answer.probabilities, answer.image, answer.box)
        return answer

    return [judge(answer) for answer in answers]


def _height(answer: Answer) -> int:
    return answer.box[3] - answer.box[1]


def _without_scenery(answers: list[Answer], shape: tuple[int, ...]) -> list[Answer]:
    """If there are digits, leave out edges, and what is not a digit and touches the border of the
    view [H, W, ...], such as a shadow."""
    if all(answer.digit is None for answer in answers):
        return answers
    return [
        a for a in answers if a.digit is not None or (a.reason != EDGE and _inside(a.box, shape))
    ]


def _inside(box: Box, shape: tuple[int, ...]) -> bool:
    return min(box) > 2 and box[2] < shape[1] - 2 and box[3] < shape[0] - 2


def _interpret(mark: Mark, row: Probabilities, multiple: bool) -> list[Answer]:
    """Turn the network's probabilities for a mark into one answer or, for a pair of digits, two.
    Only what is surely something else is refused."""
    one, two, other = row[SINGLE], row[PAIRS].reshape(-1, 10), float(row[OTHER:].sum())
    left, top, right, bottom = mark.box
    if other >= SURE:
        return [Answer(None, other, one, mark.image, mark.box, NOT_A_DIGIT)]
    if multiple and two.sum() > PAIR_ODDS * one.sum():
        return [
            _digit(two.sum(axis=1), mark.image, (left, top, mark.cut, bottom)),
            _digit(two.sum(axis=0), mark.image, (mark.cut, top, right, bottom)),
        ]
    if not multiple and two.sum() >= SURE:
        return [Answer(None, float(two.sum()), one, mark.image, mark.box, TWO_DIGITS)]
    answer = _digit(one, mark.image, mark.box)
    if answer.digit == 1 and mark.edge:
        return [answer._replace(digit=None, reason=EDGE)]
    return [answer]


def _digit(probabilities: Probabilities, image: Grey, box: Box) -> Answer:
    return Answer(
        int(probabilities.argmax()), float(probabilities.max()), probabilities, image, box
    )


def _refuse(answer: Answer) -> Answer:
    return answer._replace(digit=None, reason=NOT_A_DIGIT)


def _complete(answers: list[Answer]) -> bool:
    """Return whether all answers are surely digits, and not only ones or pieces of a line."""
    sure = bool(answers) and all(a.sure for a in answers)
    return sure and not _only_ones(answers) and not _pieces(answers)


def _only_ones(answers: list[Answer]) -> bool:
    """Return whether the only digits are ones: any line looks like one."""
    return {answer.digit for answer in answers} <= {1, None}


def _pieces(answers: list[Answer]) -> int:
    """Count the ones that are above each other: more than two are likely pieces of a line, such as
    a margin."""
    left, right = np.array([a.box[::2] for a in answers if a.digit == 1]).reshape(-1, 2).T
    overlapping = (left < right[:, np.newaxis]) & (left[:, np.newaxis] < right)
    return int((overlapping.sum(axis=1) > 2).sum())


def _score(answers: list[Answer]) -> float:
    """Count the answers that are digits, less those that are not, by confidence: more digits win,
    so that a wrong sheet doesn't win by cutting some off."""
    return -2 * ONE_WEIGHT * _pieces(answers) + sum(
        (ONE_WEIGHT if a.digit == 1 else 1) * (2 * a.confidence - 1) if a.digit is not None else -1
        for a in answers
    )


def _place(box: Box, homography: npt.NDArray[np.float64]) -> Box:
    """Return the box around a transformed box."""
    left, top, right, bottom = box
    corners = np.array([(left, top, 1), (right, top, 1), (right, bottom, 1), (left, bottom, 1)])
    x, y, w = homography @ corners.T
    x, y = (np.round(values / w).astype(int).tolist() for values in (x, y))
    return min(x), min(y), max(x), max(y)
