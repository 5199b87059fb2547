from pathlib import Path

import numpy as np

from mnist_cnn.data.arrays import Arrays
from mnist_cnn.evaluation.figures import worst_mistakes
from mnist_cnn.evaluation.scores import misclassified_images


def test_the_most_confident_mistakes_come_first(arrays: Arrays) -> None:
    probabilities = np.full((20, 10), 0.01, np.float32)
    probabilities[range(20), arrays.labels] = 0.9
    probabilities[3] = np.eye(10)[7] * 0.8
    probabilities[14] = np.eye(10)[0] * 0.95
    figure = worst_mistakes(arrays.images, misclassified_images(arrays.labels, probabilities))
    drawn = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in drawn] == [
        "4 read as 0\n95.0%, image 14",
        "3 read as 7\n80.0%, image 3",
    ]
    for axes, index in zip(drawn, (14, 3), strict=True):
        drawn_image = np.asarray(axes.images[0].get_array())
        np.testing.assert_array_equal(drawn_image, arrays.images[index, ..., 0])


def test_a_figure_without_mistakes_can_be_drawn(arrays: Arrays, tmp_path: Path) -> None:
    probabilities = np.eye(10, dtype=np.float32)[arrays.labels]
    figure = worst_mistakes(arrays.images, misclassified_images(arrays.labels, probabilities))
    figure.savefig(tmp_path / "none.png")
    assert figure.get_suptitle() == "No mistakes"
