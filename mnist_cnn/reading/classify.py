"""Tell the class of a picture, with a model of the user's own classes."""

from typing import Any, NamedTuple

import numpy as np

from mnist_cnn.data.images import normalize
from mnist_cnn.data.pictures import File, load_image
from mnist_cnn.model.formats import Model
from mnist_cnn.model.formats.base import ImageBatch, Probabilities
from mnist_cnn.reading.reader import SURE

MOST_CLASSES = 10  # are shown with their probabilities


class Classification(NamedTuple):
    """The probabilities of the `classes`, float32 [classes], for an `image` float32 [H, W, C] in
    [0, 1], which is what the network saw of a picture."""

    probabilities: Probabilities
    classes: list[str]
    image: ImageBatch

    @property
    def text(self) -> str:
        return self.classes[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float:
        return float(self.probabilities.max())

    @property
    def doubts(self) -> list[str]:
        return [] if self.confidence >= SURE else ["not sure"]

    def describe(self) -> dict[str, Any]:
        """Describe the answer in JSON's types."""
        confidence = round(self.confidence, 4)
        return {"class": self.text, "confidence": confidence, "sure": not self.doubts}

    @property
    def likeliest(self) -> list[tuple[str, float]]:
        """The names and probabilities of at most MOST_CLASSES classes, best first."""
        best = np.argsort(-self.probabilities, kind="stable")[:MOST_CLASSES]
        return [(self.classes[i], float(self.probabilities[i])) for i in best]


def classify_picture(model: Model, file: File) -> Classification:
    """Tell the class of a picture, scaled as the model's metadata says.

    Raises:
        InputError: the picture can't be read or is too large.
    """
    assert model.metadata
    pixels = load_image(file, model.image_shape, model.metadata.resizing)
    images = normalize(pixels[np.newaxis])
    (probabilities,) = model(images)
    return Classification(probabilities, model.metadata.classes, images[0])
