import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from mnist_cnn.evaluation import scores
from mnist_cnn.evaluation.significance import mcnemar

# Six images of three classes; the third and the last are misread.
LABELS = np.array([0, 0, 1, 1, 2, 2])
PROBABILITIES = np.array(
    [
        [0.95, 0.05, 0.00],
        [0.85, 0.05, 0.10],
        [0.65, 0.25, 0.10],
        [0.05, 0.75, 0.20],
        [0.00, 0.05, 0.95],
        [0.55, 0.05, 0.40],
    ],
    dtype=np.float32,
)


def test_metrics_by_hand() -> None:
    metrics = scores.compute_metrics(LABELS, PROBABILITIES, calibration_bins=10)
    assert metrics["errors"] == 2
    assert metrics["accuracy"] == pytest.approx(4 / 6, abs=1e-6)
    # Wilson: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with p = 4/6, n = 6
    assert metrics["accuracy_low"] == pytest.approx(0.299993, abs=1e-6)
    assert metrics["accuracy_high"] == pytest.approx(0.903229, abs=1e-6)
    assert metrics["loss"] == pytest.approx(
        -np.log([0.95, 0.85, 0.25, 0.75, 0.95, 0.4]).mean(), abs=1e-6
    )
    assert metrics["macro_precision"] == pytest.approx((2 / 4 + 1 + 1) / 3, abs=1e-6)
    assert metrics["macro_recall"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3, abs=1e-6)
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 2 / 3) / 3, abs=1e-6)
    assert metrics["worst_class_recall"] == 0.5
    # Bins by confidence: {.95, .95}, {.85} and {.75} are right, {.65} and {.55} are wrong.
    expected = (2 * 0.05 + 0.15 + 0.25 + 0.65 + 0.55) / 6
    assert metrics["expected_calibration_error"] == pytest.approx(expected, abs=1e-6)


def test_calibration_error_weighs_bins_by_their_images() -> None:
    probabilities = np.array([[0.75, 0.25]] * 4, dtype=np.float32)
    three_of_four = np.array([0, 0, 0, 1])
    assert scores.expected_calibration_error(three_of_four, probabilities, 10) == pytest.approx(0)
    one_of_four = np.array([0, 1, 1, 1])
    assert scores.expected_calibration_error(one_of_four, probabilities, 10) == pytest.approx(0.5)


def test_reliability_has_a_row_for_each_bin_with_images() -> None:
    table = scores.reliability(LABELS, PROBABILITIES, 2)
    assert table["images"].tolist() == [6]
    assert table["accuracy"].tolist() == pytest.approx([4 / 6])
    table = scores.reliability(LABELS, PROBABILITIES, 10)
    assert table["images"].tolist() == [1, 1, 1, 1, 2]
    assert table["confidence"].tolist() == pytest.approx([0.55, 0.65, 0.75, 0.85, 0.95])
    assert table["accuracy"].tolist() == [0, 0, 1, 1, 1]


def test_a_confidence_on_the_edge_belongs_to_the_lower_bin() -> None:
    probabilities = np.array([[0.5, 0.5], [0.75, 0.25]], dtype=np.float32)
    table = scores.reliability(np.array([0, 0]), probabilities, 2)
    assert table["confidence"].tolist() == [0.5, 0.75]


def test_certainty_falls_into_the_last_bin() -> None:
    probabilities = np.array([[1.0, 0.0]], dtype=np.float32)
    assert scores.expected_calibration_error(np.array([1]), probabilities, 15) == 1


def test_classification_report_has_a_row_for_each_class() -> None:
    report = scores.classification_report(LABELS, PROBABILITIES)
    assert report.columns.tolist() == ["class", "precision", "recall", "f1_score", "support"]
    assert report["recall"].tolist() == [1, 0.5, 0.5]
    assert report["support"].tolist() == [2, 2, 2]


def test_a_class_that_never_occurs_counts_as_zero() -> None:
    report = scores.classification_report(np.array([0, 0]), PROBABILITIES[:2])
    assert report["precision"].tolist() == [1, 0, 0]


def test_the_confusion_matrix_counts_each_pair_that_occurs() -> None:
    labels = np.concatenate([LABELS, LABELS[-1:]])
    matrix = scores.confusion_matrix(labels, np.vstack([PROBABILITIES, PROBABILITIES[-1:]]))
    assert matrix.to_numpy().tolist() == [[0, 0, 2], [1, 0, 1], [1, 1, 1], [2, 0, 2], [2, 2, 1]]
    assert matrix.columns.tolist() == ["actual", "predicted", "count"]


def test_misclassified_images_keep_their_order() -> None:
    misclassified = scores.misclassified_images(LABELS, PROBABILITIES)
    assert misclassified[["index", "actual", "predicted"]].to_numpy().tolist() == [
        [2, 1, 0],
        [5, 2, 0],
    ]
    assert misclassified["confidence"].tolist() == pytest.approx([0.65, 0.55])
    assert len(scores.misclassified_images(LABELS[:2], PROBABILITIES[:2])) == 0


def test_an_export_is_compared_with_its_network() -> None:
    """The export loses image 0, wins image 2, and gives a different wrong answer for image 5."""
    export = PROBABILITIES.copy()
    export[[0, 2, 5]] = [[0.1, 0.9, 0.0], [0.3, 0.6, 0.1], [0.2, 0.6, 0.2]]
    comparison = scores.compare_predictions(LABELS, PROBABILITIES, export)
    assert comparison == {
        "accuracy": pytest.approx(4 / 6, abs=1e-6),
        "differing_answers": 3,
        "lost": 1,
        "won": 1,
        "p_value": 0.75,
        "largest_difference": 0.85,
    }


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (0, 5), (12, 8), (30, 10), (113, 40)])
def test_mcnemar_is_the_exact_test(lost: int, won: int) -> None:
    expected = binomtest(lost, lost + won, 0.5, alternative="greater").pvalue if lost + won else 1.0
    assert mcnemar(lost, won) == pytest.approx(expected, rel=1e-9)


def test_numbers_of_classes_become_names() -> None:
    table = pd.DataFrame({"actual": [1, 0], "predicted": [0, 2], "count": [1, 2]})
    named = scores.with_class_names(table, np.array(["ape", "cow", "ä"]))
    assert named.to_numpy().tolist() == [["cow", "ape", 1], ["ape", "ä", 2]]
