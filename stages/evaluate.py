"""Evaluate the network on the test images.

This runs its ONNX file, which export has compared with the Keras file, because importing TensorFlow
would take longer than all the rest.
"""

from pathlib import Path

import matplotlib

from mnist_cnn.data.arrays import read_arrays
from mnist_cnn.errors import report_errors, warn
from mnist_cnn.evaluation import scores
from mnist_cnn.evaluation.figures import worst_mistakes
from mnist_cnn.files import write_atomically, write_csv, write_json
from mnist_cnn.model.formats import FORMATS, load_model
from mnist_cnn.params import load_params

METRICS = Path("metrics")


@report_errors
def main() -> None:
    params = load_params().evaluate
    test = read_arrays(Path("data/prepared/test.npz"))
    matplotlib.rcdefaults()  # ignore the user's own style
    model = FORMATS["onnx"].path
    probabilities = load_model(model, (test.images.shape[1:], len(test.classes)))(test.images)

    _, labels, classes = test
    metrics = scores.compute_metrics(labels, probabilities, params.calibration_bins)
    report = scores.with_class_names(scores.classification_report(labels, probabilities), classes)
    confusion = scores.with_class_names(scores.confusion_matrix(labels, probabilities), classes)
    misclassified = scores.with_class_names(
        scores.misclassified_images(labels, probabilities), classes
    )
    reliability = scores.reliability(labels, probabilities, params.calibration_bins)

    write_json(metrics | {"model_size": model.stat().st_size}, METRICS / "metrics.json")
    write_csv(report, METRICS / "classification_report.csv")
    write_csv(confusion, METRICS / "confusion_matrix.csv")
    write_csv(misclassified, METRICS / "misclassified.csv")
    write_csv(reliability, METRICS / "reliability.csv")
    with write_atomically(METRICS / "worst_mistakes.png") as partial:
        figure = worst_mistakes(test.images, misclassified)
        figure.savefig(partial, metadata={"Software": None})
    print(report.to_string(index=False, float_format="%.4f"))
    if never := report.loc[report["recall"] == 0, "class"].tolist():
        warn(f"no test image of {', '.join(never)} is classified correctly")


if __name__ == "__main__":
    main()
