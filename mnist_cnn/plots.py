"""Pictures of results, for people to look at."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from mnist_cnn.stored import Images

ROWS, COLUMNS = 4, 8


def worst_mistakes(images: Images, predictions: pd.DataFrame) -> Figure:
    """The misread images of which the network was most confident, at most 32 of them, each with its
    number, class, prediction and confidence.

    Takes images float32 [N, H, W, C] in [0, 1] and a table `index, actual, predicted, confidence`
    as `scoring.predictions` makes it.
    """
    mistakes = predictions.query("actual != predicted")
    worst = mistakes.nlargest(ROWS * COLUMNS, "confidence", keep="first")
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    figure.suptitle(f"The most confident {len(worst)} of {len(mistakes)} mistakes")
    grid = figure.subplots(ROWS, COLUMNS)
    for axes in grid.flat:
        axes.axis("off")
    for axes, mistake in zip(grid.flat, worst.itertuples(index=False), strict=False):
        index, actual, predicted, confidence = mistake
        axes.imshow(images[index], cmap="gray_r", vmin=0, vmax=1)
        title = f"{actual} read as {predicted}\n{confidence:.1%}, image {index}"
        axes.set_title(title, fontsize=8, parse_math=False)
    return figure


def explanation(
    picture: npt.NDArray[np.float32],
    boxes: npt.NDArray[np.float64],
    images: npt.NDArray[np.float32],
    probabilities: npt.NDArray[np.float32],
) -> Figure:
    """A picture [H, W] in [0, 1] with a box around each of its N digits; beside it what the network
    saw of each, images [N, 28, 28, 1] in [0, 1], and the probabilities [N, classes].

    A box is left, top, right and bottom in pixels.
    """
    count, classes = probabilities.shape
    figure = Figure(figsize=(8, 2 + 1.4 * count), layout="constrained")
    grid = figure.add_gridspec(count, 3, width_ratios=(2, 1, 2))
    whole = figure.add_subplot(grid[:, 0])
    whole.imshow(picture, cmap="gray", vmin=0, vmax=1)
    whole.set_title("the picture", fontsize=10)
    whole.axis("off")
    for i, (left, top, right, bottom) in enumerate(boxes):
        edges = Rectangle((left, top), right - left, bottom - top, fill=False, color="tab:red")
        whole.add_patch(edges)
        seen, bars = figure.add_subplot(grid[i, 1]), figure.add_subplot(grid[i, 2])
        seen.imshow(images[i], cmap="gray", vmin=0, vmax=1)
        seen.axis("off")
        bars.bar(range(classes), probabilities[i], color="tab:blue")
        bars.set_ylim(0, 1)
        bars.set_xticks(range(classes))
        bars.yaxis.set_major_formatter(PercentFormatter(1))
        if i == 0:
            seen.set_title("the network saw", fontsize=10)
            bars.set_title("probabilities", fontsize=10)
    return figure
