"""Evaluate the network and its exports on the test images."""

from pathlib import Path

import matplotlib
import pandas as pd

from mnist_cnn.data.arrays import Arrays, read_arrays
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
    probabilities = predict_test_images(test)
    network = probabilities["keras"]

    _, labels, classes = test
    metrics = scores.compute_metrics(labels, network, params.calibration_bins)
    report = scores.with_class_names(scores.classification_report(labels, network), classes)
    confusion = scores.with_class_names(scores.confusion_matrix(labels, network), classes)
    misclassified = scores.with_class_names(scores.misclassified_images(labels, network), classes)
    reliability = scores.reliability(labels, network, params.calibration_bins)
    exports = pd.DataFrame(
        {"format": name, **scores.compare_predictions(labels, network, exported)}
        | {"size": file_size(FORMATS[name].path)}
        for name, exported in probabilities.items()
        if name != "keras"
    )

    write_json(metrics | {"model_size": file_size(FORMATS["keras"].path)}, METRICS / "metrics.json")
    write_csv(report, METRICS / "classification_report.csv")
    write_csv(confusion, METRICS / "confusion_matrix.csv")
    write_csv(misclassified, METRICS / "misclassified.csv")
    write_csv(reliability, METRICS / "reliability.csv")
    write_csv(exports, METRICS / "exports.csv")
    with write_atomically(METRICS / "worst_mistakes.png") as partial:
        figure = worst_mistakes(test.images, misclassified)
        figure.savefig(partial, metadata={"Software": None})
    print(report.to_string(index=False, float_format="%.4f"))
    if never := report.loc[report["recall"] == 0, "class"].tolist():
        warn(f"no test image of {', '.join(never)} is classified correctly")
    for export in exports.query("p_value < 0.05").itertuples():
        warn(
            f"{FORMATS[str(export.format)].path} gets {export.lost} test images wrong "
            f"that {FORMATS['keras'].path} gets right, and only {export.won} the other way round: "
            "prefer another format"
        )


def predict_test_images(test: Arrays) -> dict[str, scores.Probabilities]:
    """Return the probabilities float32 [N, classes] for the test images, for each model format."""
    interface = test.images.shape[1:], len(test.classes)
    return {name: load_model(path, interface)(test.images) for name, (path, *_) in FORMATS.items()}


def file_size(path: Path) -> int:
    """Return the number of bytes in a file, or in all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    main()
