"""Pictures of results, for people to look at."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

ROWS, COLUMNS = 4, 8


def worst_mistakes(images: npt.NDArray[np.float32], predictions: pd.DataFrame) -> Figure:
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
        axes.set_title(f"{actual} read as {predicted}\n{confidence:.1%}, image {index}", fontsize=8)
    return figure
