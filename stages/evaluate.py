"""The network, its exports and the test arrays → metrics, tables and figures."""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from mnist_cnn.data.arrays import Arrays, read_arrays
from mnist_cnn.errors import InputError, report_errors
from mnist_cnn.evaluation import scores
from mnist_cnn.evaluation.figures import worst_mistakes
from mnist_cnn.files import write_atomically, write_csv, write_json
from mnist_cnn.model.formats import FORMATS, load_model
from mnist_cnn.model.formats.keras import load_network
from mnist_cnn.params import load_params

METRICS = Path("metrics")
MODEL = FORMATS["keras"].path


@report_errors
def main() -> None:
    params = load_params().evaluate
    test = read_arrays(Path("data/prepared/test.npz"))
    matplotlib.rcdefaults()  # whatever style the user has configured
    probabilities = predict_test_images(test)

    _, labels, classes = test
    metrics = scores.compute_metrics(labels, probabilities, params.calibration_bins)
    report = scores.with_class_names(scores.classification_report(labels, probabilities), classes)
    confusion = scores.confusion_matrix(labels, probabilities)
    misclassified = scores.misclassified_images(labels, probabilities)
    misclassified = scores.with_class_names(misclassified, classes)
    reliability = scores.reliability(labels, probabilities, params.calibration_bins)
    exports = compare_exports(test, probabilities)

    write_json(metrics | {"model_size": MODEL.stat().st_size}, METRICS / "metrics.json")
    write_csv(report, METRICS / "classification_report.csv")
    write_csv(scores.with_class_names(confusion, classes), METRICS / "confusion_matrix.csv")
    write_csv(misclassified, METRICS / "misclassified.csv")
    write_csv(reliability, METRICS / "reliability.csv")
    write_csv(exports, METRICS / "exports.csv")
    with write_atomically(METRICS / "worst_mistakes.png") as partial:
        figure = worst_mistakes(test.images, misclassified)
        figure.savefig(partial, metadata={"Software": None})
    print(report.to_string(index=False, float_format="%.4f"))
    for export in exports.query("p_value < 0.05").itertuples():
        print(
            f"warning: {FORMATS[str(export.format)].path} gets {export.lost} test images wrong "
            f"that {MODEL} gets right, and only {export.won} the other way round: prefer another "
            "format",
            file=sys.stderr,
        )


def predict_test_images(test: Arrays) -> scores.Probabilities:
    """The network's probabilities float32 [N, classes] for the test images.

    Raises:
        InputError: the network was made for other images or classes, or doesn't give probabilities.
    """
    network = load_network(MODEL)
    expected = test.images.shape[1:], test.classes.shape
    found = network.input_shape[1:], network.output_shape[1:]
    if found != expected:
        raise InputError(
            f"{MODEL} maps images {found[0]} to {found[1]} probabilities: expected {expected[0]} "
            f"and {expected[1]}; train it on these arrays with `dvc repro train`"
        )

    from mnist_cnn.model.network import predict

    probabilities = predict(network, test.images)
    if not (probabilities.min() >= 0 and np.allclose(probabilities.sum(axis=1), 1, atol=1e-3)):
        raise InputError(
            f"{MODEL} gives numbers that are not probabilities: expected each image's to lie in "
            "[0, 1] and sum to 1; recreate it with `dvc repro --force train`"
        )
    return probabilities


def compare_exports(test: Arrays, probabilities: scores.Probabilities) -> pd.DataFrame:
    """A row for each exported format: how its answers compare with the network's, and its size."""
    shapes = test.images.shape[1:], len(test.classes)
    rows = []
    for name, (path, *_) in FORMATS.items():
        if path != MODEL:
            exported = load_model(path, *shapes)(test.images)
            comparison = scores.compare_predictions(test.labels, probabilities, exported)
            files = [path, *path.rglob("*")]
            size = sum(file.stat().st_size for file in files if file.is_file())
            rows.append({"format": name} | comparison | {"size": size})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
