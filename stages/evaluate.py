"""The trained network, its exports and the test arrays -> metrics, tables and pictures."""

from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd

from mnist_cnn import scoring
from mnist_cnn.arrays import read_arrays
from mnist_cnn.errors import InputError, reported
from mnist_cnn.files import replacing, write_csv, write_json
from mnist_cnn.params import load_params
from mnist_cnn.plots import worst_mistakes
from mnist_cnn.runtimes import load_model

METRICS = Path("metrics")
MODEL = Path("models/model.keras")
EXPORTS = {
    "onnx": Path("models/model.onnx"),
    "litert": Path("models/model.tflite"),
    "litert_int8": Path("models/model_int8.tflite"),
    "saved_model": Path("models/saved_model"),
}


@reported
def main() -> None:
    params = load_params()
    images, labels, classes = read_arrays(Path("data/prepared/test.npz"))

    # TensorFlow takes seconds to import: what can be refused is refused before.
    from mnist_cnn.network import load_network, make_deterministic, predict

    make_deterministic()
    matplotlib.rcdefaults()  # whatever style a user has set
    network = load_network(MODEL)
    if network.input_shape[1:] != images.shape[1:] or network.output_shape[1:] != classes.shape:
        raise InputError(
            f"{MODEL} takes images {network.input_shape[1:]} and gives {network.output_shape[1:]} "
            f"probabilities: expected {images.shape[1:]} and {classes.shape}; "
            "train it on these arrays with `dvc repro train`"
        )
    probabilities = predict(network, images, params.evaluate.batch_size)
    if not (probabilities.min() >= 0 and np.allclose(probabilities.sum(axis=1), 1, atol=1e-3)):
        raise InputError(
            f"{MODEL} gives numbers that are no probabilities: expected each image's to lie in "
            "[0, 1] and sum to 1; make it anew with `dvc repro --force train`"
        )

    bins = params.evaluate.calibration_bins
    metrics = scoring.metrics(labels, probabilities, bins) | {"model_size": MODEL.stat().st_size}
    report = named(scoring.classification_report(labels, probabilities), classes)
    predictions = named(scoring.predictions(labels, probabilities), classes)
    tables = {
        "classification_report.csv": report,
        "confusions.csv": named(scoring.confusions(labels, probabilities), classes),
        "predictions.csv": predictions,
        "reliability.csv": scoring.reliability(labels, probabilities, bins),
    }
    shapes = images.shape[1:], len(classes)
    exports = {
        name: scoring.agreement(labels, probabilities, load_model(path, *shapes)(images))
        | {"size": sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())}
        for name, path in EXPORTS.items()
    }
    names = ("metrics.json", "exports.json", "worst_mistakes.png", *tables)
    with replacing(*(METRICS / name for name in names)) as (numbers, formats, picture, *partials):
        write_json(metrics, numbers)
        write_json(exports, formats)
        worst_mistakes(images, predictions).savefig(picture, metadata={"Software": None})
        for table, partial in zip(tables.values(), partials, strict=True):
            write_csv(table, partial)
    print(report.to_string(index=False, float_format="%.4f"))


def named(table: pd.DataFrame, classes: npt.NDArray[np.str_]) -> pd.DataFrame:
    """`table` with names in place of the numbers of classes."""
    columns = table.columns.intersection(["class", "actual", "predicted"])
    return table.assign(**{column: classes[table[column]] for column in columns})


if __name__ == "__main__":
    main()
