"""Draw how a picture was read."""

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter


def draw_explanation(
    picture: npt.NDArray[np.float32],
    boxes: npt.NDArray[np.float64],
    images: npt.NDArray[np.float32],
    probabilities: npt.NDArray[np.float32],
) -> Figure:
    """Draw a picture [H, W] in [0, 1] with a box around each of its N digits, next to the images
    [N, 28, 28, 1] in [0, 1] that the network saw and the probabilities [N, classes].

    Each box is (left, top, right, bottom) in pixels.
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
