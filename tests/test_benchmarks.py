from pathlib import Path

import pandas as pd
import pytest

from benchmarks.contestants import ALTERNATIVES, compose
from benchmarks.race import RUNS, picture, summary
from mnist_cnn.params import load_params
from tests.conftest import ROOT
from tests.test_recipes import compose as compose_with_dvc

RESULTS = pd.DataFrame(
    [
        ("fast", 1, 1, 5.0, 0.9850),
        ("fast", 1, 2, 9.0, 0.9950),
        ("fast", 2, 1, 7.0, 0.9870),
        ("fast", 2, 2, 12.0, 0.9930),
        ("Keras example", 1, 1, 30.0, 0.9800),
        ("Keras example", 1, 2, 60.0, 0.9910),
    ],
    columns=["contestant", "seed", "epoch", "seconds", "accuracy"],
)


def test_a_level_counts_when_every_run_reached_it() -> None:
    fast, keras = summary(RESULTS).to_dict("records")
    assert fast == {
        "training": "fast",
        "runs": "2",
        "s to 98.35%": "6.0",
        "s to 99.00%": "10.5",
        "s to 99.40%": "-",
        "s in all": "10.5",
        "final accuracy": "99.40%",
        "sd": "0.14%",
    }
    assert keras["s to 98.35%"] == keras["s to 99.00%"] == "60.0"
    assert (keras["s to 99.40%"], keras["sd"]) == ("-", "")


def test_the_picture_shows_mean_errors_by_mean_seconds() -> None:
    (axes,) = picture(RESULTS).axes
    fast, keras = axes.lines
    assert fast.get_xydata() == pytest.approx(pd.DataFrame([[6.0, 0.014], [10.5, 0.006]]))
    assert keras.get_linestyle() == "--"
    assert [line.get_label() for line in axes.lines] == ["fast", "Keras example"]


def test_recipes_compose_as_dvc_composes_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    compose_with_dvc(tmp_path, "+recipes=fast", "train.epochs=3")
    assert compose("fast, 3 epochs") == load_params(tmp_path / "composed.yaml")
    assert compose("baseline").train.batch_size == 64
    assert compose("fast, 3 epochs").train.epochs == 3 != compose("fast").train.epochs
    assert compose("baseline").model == compose("default").model
    for name in RUNS.keys() - ALTERNATIVES.keys() - {"default"}:
        assert compose(name) != compose("default")
