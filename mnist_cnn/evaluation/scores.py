"""Compute metrics and tables from labels and predicted probabilities."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, log_loss, precision_recall_fscore_support

from mnist_cnn.evaluation.significance import mcnemar

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]


def compute_metrics(
    labels: Labels, probabilities: Probabilities, calibration_bins: int
) -> dict[str, float | int]:
    """Compute the metrics in `metrics.json` from labels int64 [N] in [0, classes) and probabilities
    float32 [N, classes] in [0, 1]. Fractions and the loss are rounded to 6 decimals.

    `accuracy_low` and `accuracy_high` are the 95 % Wilson score interval of the accuracy (Wilson
    1927, https://doi.org/10.1080/01621459.1927.10502953); `loss` is the cross-entropy in nats.
    """
    predicted = probabilities.argmax(axis=1)
    errors = int((predicted != labels).sum())
    interval = binomtest(len(labels) - errors, len(labels)).proportion_ci(0.95, method="wilson")
    report = classification_report(labels, probabilities)
    values = {
        "accuracy": accuracy_score(labels, predicted),
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "loss": log_loss(labels, probabilities, labels=range(probabilities.shape[1])),
        "macro_precision": report["precision"].mean(),
        "macro_recall": report["recall"].mean(),
        "macro_f1": report["f1_score"].mean(),
        "worst_class_recall": report["recall"].min(),
        "expected_calibration_error": expected_calibration_error(
            labels, probabilities, calibration_bins
        ),
    }
    return {"errors": errors} | {name: round(float(value), 6) for name, value in values.items()}


def compare_predictions(
    labels: Labels, expected: Probabilities, probabilities: Probabilities
) -> dict[str, float | int]:
    """Compare an exported model's `probabilities` float32 [N, classes] with those `expected` from
    the original network.

    - `accuracy` of the exported model
    - `differing_answers`: images for which the two predict different classes
    - `lost` and `won`: images that only the network, or only the exported model, gets right
    - `p_value` of `mcnemar` for `lost` and `won`
    - `largest_difference` between two probabilities, rounded to 4 decimals
    """
    correct = probabilities.argmax(axis=1) == labels
    network_correct = expected.argmax(axis=1) == labels
    lost, won = int((network_correct & ~correct).sum()), int((correct & ~network_correct).sum())
    return {
        "accuracy": round(float(correct.mean()), 6),
        "differing_answers": int((probabilities.argmax(1) != expected.argmax(1)).sum()),
        "lost": lost,
        "won": won,
        "p_value": mcnemar(lost, won),
        "largest_difference": round(float(np.abs(probabilities - expected).max()), 4),
    }


def classification_report(labels: Labels, probabilities: Probabilities) -> pd.DataFrame:
    """Return precision, recall and F1 score in [0, 1] and support (number of images), one row per
    class. Undefined values, such as the precision of a class never predicted, are 0."""
    classes = range(probabilities.shape[1])
    columns = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=classes, zero_division=0
    )
    names = ("precision", "recall", "f1_score", "support")
    return pd.DataFrame({"class": classes} | dict(zip(names, columns, strict=True)))


def confusion_matrix(labels: Labels, probabilities: Probabilities) -> pd.DataFrame:
    """Count the images of each pair of classes that occurs: `actual, predicted, count`, sorted by
    class."""
    pairs = pd.DataFrame({"actual": labels, "predicted": probabilities.argmax(axis=1)})
    return pairs.groupby(["actual", "predicted"]).size().reset_index(name="count")


def misclassified_images(labels: Labels, probabilities: Probabilities) -> pd.DataFrame:
    """Return one row per misclassified image, in order: `index, actual, predicted, confidence` (the
    probability of the predicted class, in [0, 1])."""
    predicted = probabilities.argmax(axis=1)
    index = np.flatnonzero(predicted != labels)
    return pd.DataFrame(
        {
            "index": index,
            "actual": labels[index],
            "predicted": predicted[index],
            "confidence": probabilities[index].max(axis=1),
        }
    )


def expected_calibration_error(labels: Labels, probabilities: Probabilities, bins: int) -> float:
    """Return the mean gap between confidence and accuracy, in [0, 1], over the bins of
    `reliability`, weighted by size (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""
    table = reliability(labels, probabilities, bins)
    gaps = (table["accuracy"] - table["confidence"]).abs()
    return float((gaps * table["images"]).sum() / len(labels))


def reliability(labels: Labels, probabilities: Probabilities, bins: int) -> pd.DataFrame:
    """Return mean confidence, accuracy and number of images in `bins` equal-width confidence bins,
    without empty ones: the reliability diagram (Niculescu-Mizil and Caruana 2005,
    https://doi.org/10.1145/1102351.1102430)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    # Bin b holds confidences in (b / bins, (b + 1) / bins].
    members = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    table = pd.DataFrame({"confidence": confidence, "accuracy": correct, "images": 1})
    groups = table.groupby(members)
    return groups.agg({"confidence": "mean", "accuracy": "mean", "images": "sum"})


def with_class_names(table: pd.DataFrame, classes: npt.NDArray[np.str_]) -> pd.DataFrame:
    """Replace the numbers of classes in `table` with their names."""
    columns = table.columns.intersection(["class", "actual", "predicted"])
    return table.assign(**{column: classes[table[column]] for column in columns})
