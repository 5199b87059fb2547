"""Draw figures of the results."""

import pandas as pd
from matplotlib.figure import Figure

from mnist_cnn.data.images import Images

ROWS, COLUMNS = 4, 8


def worst_mistakes(images: Images, mistakes: pd.DataFrame) -> Figure:
    """Draw the misclassified images with the highest confidence, at most 32, each with its index,
    class, prediction and confidence.

    Takes images float32 [N, H, W, C] in [0, 1] and the table from `scores.misclassified_images`.
    """
    worst = mistakes.nlargest(ROWS * COLUMNS, "confidence", keep="first")
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    title = f"The most confident {len(worst)} of {len(mistakes)} mistakes"
    figure.suptitle(title if len(mistakes) else "No mistakes")
    grid = figure.subplots(ROWS, COLUMNS)
    for axes in grid.flat:
        axes.axis("off")
    for axes, mistake in zip(grid.flat, worst.itertuples(index=False), strict=False):
        index, actual, predicted, confidence = mistake
        axes.imshow(images[index], cmap="gray_r", vmin=0, vmax=1)
        title = f"{actual} read as {predicted}\n{confidence:.1%}, image {index}"
        axes.set_title(title, fontsize=8, parse_math=False)
    return figure
