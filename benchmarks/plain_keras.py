"""Train the same network without a pipeline, in a plain Keras script."""

import json

import keras
import numpy as np
from keras import layers
from sklearn.metrics import classification_report

from mnist_cnn.data.mnist import load_mnist


def plain_network() -> keras.Sequential:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def main() -> None:
    dataset = load_mnist()
    train_images = dataset.train_images[..., np.newaxis].astype("float32") / 255
    test_images = dataset.test_images[..., np.newaxis].astype("float32") / 255

    model = plain_network()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        train_images, dataset.train_labels, batch_size=64, epochs=3, validation_split=0.2, verbose=2
    )
    loss, accuracy = model.evaluate(test_images, dataset.test_labels, verbose=0)
    predicted = model.predict(test_images, verbose=0).argmax(axis=1)
    print(classification_report(dataset.test_labels, predicted, digits=4))
    print(json.dumps({"loss": loss, "accuracy": accuracy}))


if __name__ == "__main__":
    main()
