"""Labels and probabilities turned into metrics and tables."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, log_loss, precision_recall_fscore_support

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]


def metrics(
    labels: Labels, probabilities: Probabilities, calibration_bins: int
) -> dict[str, float | int]:
    """The numbers of `metrics.json`, from labels int64 [N] in [0, classes) and probabilities
    float32 [N, classes] in [0, 1]; fractions and the loss are rounded to 6 decimals.

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


def agreement(
    labels: Labels, expected: Probabilities, probabilities: Probabilities
) -> dict[str, float | int]:
    """How close an export's `probabilities` float32 [N, classes] come to those `expected` of the
    network: its accuracy, on how many images the two differ, and the largest difference between
    two probabilities, rounded to 4 decimals."""
    answers = probabilities.argmax(axis=1)
    return {
        "accuracy": round(float(accuracy_score(labels, answers)), 6),
        "differing_answers": int((answers != expected.argmax(axis=1)).sum()),
        "largest_difference": round(float(np.abs(probabilities - expected).max()), 4),
    }


def classification_report(labels: Labels, probabilities: Probabilities) -> pd.DataFrame:
    """Precision, recall, F1 score in [0, 1] and support (images) of each class, one row a class;
    0 where a class was never predicted."""
    classes = range(probabilities.shape[1])
    columns = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=classes, zero_division=0
    )
    names = ("precision", "recall", "f1_score", "support")
    return pd.DataFrame({"class": classes} | dict(zip(names, columns, strict=True)))


def confusions(labels: Labels, probabilities: Probabilities) -> pd.DataFrame:
    """How often each class was taken for which other: `actual, predicted, count`, most frequent
    first."""
    pairs = predictions(labels, probabilities).query("actual != predicted")
    counts = pairs.value_counts(["actual", "predicted"]).reset_index()
    return counts.sort_values(["count", "actual", "predicted"], ascending=[False, True, True])


def predictions(labels: Labels, probabilities: Probabilities) -> pd.DataFrame:
    """One row per image, in order: `index, actual, predicted, confidence` (the probability of the
    predicted class, in [0, 1])."""
    return pd.DataFrame(
        {
            "index": np.arange(len(labels)),
            "actual": labels,
            "predicted": probabilities.argmax(axis=1),
            "confidence": probabilities.max(axis=1),
        }
    )


def expected_calibration_error(labels: Labels, probabilities: Probabilities, bins: int) -> float:
    """Mean gap between confidence and accuracy, in [0, 1], over the bins of `reliability`, each
    weighted by its images (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""
    table = reliability(labels, probabilities, bins)
    gaps = (table["accuracy"] - table["confidence"]).abs()
    return float((gaps * table["images"]).sum() / len(labels))


def reliability(labels: Labels, probabilities: Probabilities, bins: int) -> pd.DataFrame:
    """Mean confidence, accuracy and images of each equal-width bin of confidence that has any: the
    reliability diagram (Niculescu-Mizil and Caruana 2005, https://doi.org/10.1145/1102351.1102430).
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    # Bin b holds confidences in (b / bins, (b + 1) / bins].
    members = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    table = pd.DataFrame({"confidence": confidence, "accuracy": correct, "images": 1})
    groups = table.groupby(members)
    return groups.agg({"confidence": "mean", "accuracy": "mean", "images": "sum"})
