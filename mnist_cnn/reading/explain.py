"""Draw how a picture was read."""

from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter

from mnist_cnn.reading.classify import Classification
from mnist_cnn.reading.reader import Answer, Reading

MOST_MARKS, MOST_BOXES = 30, 500
SHEET, DIGIT, REFUSED, CUT, OTHERS = "tab:green", "tab:red", "dimgray", "tab:orange", "tab:blue"
HALO = withStroke(linewidth=3, foreground="white")  # keeps lines visible on any picture

Mark = list[Answer]  # one answer, or two if it was cut


def draw_explanation(answer: Reading | Classification) -> Figure:
    """Draw how a picture was read."""
    if isinstance(answer, Classification):
        return _draw_classification(answer)
    return _draw_reading(answer)


def _draw_classification(answer: Classification) -> Figure:
    """Draw what the network saw and the probabilities of the likeliest classes."""
    names, shares = zip(*answer.likeliest, strict=True)
    figure = Figure(figsize=(10, 4), layout="constrained")
    seen, bars = figure.subplots(1, 2)
    seen.imshow(answer.image, cmap="gray", vmin=0, vmax=1)
    seen.axis("off")
    seen.set_title("the network saw", fontsize=10)
    # A class name may have a $, which Matplotlib would take for mathematics.
    bars.barh(range(len(names)), shares, color=[DIGIT] + [OTHERS] * (len(names) - 1))
    bars.set_yticks(range(len(names)), names, parse_math=False)
    bars.invert_yaxis()
    bars.set_xlim(0, 1)
    bars.xaxis.set_major_formatter(PercentFormatter(1))
    bars.spines[["top", "right"]].set_visible(False)
    title = ", ".join([f"classified as {answer.text}", *answer.doubts])
    bars.set_title(title, fontsize=10, parse_math=False)
    return figure


def _draw_reading(reading: Reading) -> Figure:
    """Draw the picture with the sheet of paper and the first MOST_BOXES marks. Next to it, draw for
    each of the first MOST_MARKS marks what the network saw and the probabilities."""
    marks = [list(mark) for _, mark in groupby(reading.answers, key=lambda a: id(a.image))]
    shown = marks[:MOST_MARKS]
    rows = sum(len(mark) for mark in shown)
    figure = Figure(figsize=(10, max(1.7 * rows, 4)), layout="constrained")
    grid = figure.add_gridspec(rows, 3, width_ratios=(5, 2, 4))
    _draw_picture(figure.add_subplot(grid[:, 0]), reading, marks)
    row = 0
    for mark in shown:
        seen = figure.add_subplot(grid[row : row + len(mark), 1])
        seen.imshow(mark[0].image, cmap="gray", vmin=0, vmax=1)
        seen.axis("off")
        if row == 0:
            seen.set_title("the network saw", fontsize=10)
        for answer in mark:
            _draw_probabilities(figure.add_subplot(grid[row, 2]), answer)
            row += 1
    return figure


def _draw_picture(axes: Axes, reading: Reading, marks: list[Mark]) -> None:
    height, width = (side * reading.reduction for side in reading.picture.shape[:2])
    axes.imshow(reading.picture, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    axes.set_anchor("N")
    axes.axis("off")
    if reading.sheet is not None:
        corners = (reading.sheet + 0.5) * reading.reduction
        axes.add_patch(Polygon(corners, fill=False, color=SHEET, linewidth=2, path_effects=[HALO]))
    for mark in marks[:MOST_BOXES]:
        _draw_mark(axes, mark, margin=0.005 * max(height, width))


def _draw_mark(axes: Axes, mark: Mark, margin: float) -> None:
    lefts, tops, rights, bottoms = zip(*(answer.box for answer in mark), strict=True)
    left, top = min(lefts) - margin, min(tops) - margin
    right, bottom = max(rights) + margin, max(bottoms) + margin
    read = "".join(str(answer.digit) for answer in mark if answer.digit is not None)
    colour, line = (DIGIT, "-") if read else (REFUSED, "--")
    box = Rectangle((left, top), right - left, bottom - top, fill=False, color=colour)
    box.set(linestyle=line, linewidth=1.5, path_effects=[HALO])
    axes.add_patch(box)
    axes.text(left, top - margin, read, color=colour, weight="bold", path_effects=[HALO])
    if len(mark) == 2:
        cut = (rights[0] + lefts[1]) / 2
        axes.plot([cut, cut], [top, bottom], "--", color=CUT, linewidth=1.5)


def _draw_probabilities(axes: Axes, answer: Answer) -> None:
    none = len(answer.probabilities)
    bars = axes.bar(
        range(none + 1), [*answer.probabilities, 1 - answer.probabilities.sum()], color=OTHERS
    )
    bars[none].set_color(REFUSED)
    if answer.digit is None:
        title = f"refused: {answer.reason}"
    else:
        bars[answer.digit].set_color(DIGIT)
        title = f"read as {answer.digit}" + ("" if answer.sure else ", not sure")
    axes.set_title(title, fontsize=10)
    axes.set_xticks(range(none + 1), [*map(str, range(none)), "no\ndigit"], fontsize=9)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_box_aspect(0.4)
