import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import compare
from benchmarks.contestants import ALTERNATIVES, compose
from benchmarks.race import RUNS, picture, summary
from mnist_cnn.params import load_params
from tests.helpers import ROOT, succeed
from tests.pipeline.test_recipes import compose as compose_with_dvc

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


def test_compare_leaves_the_workspace_alone(
    clone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(shutil.copytree(clone, tmp_path / "clone"))
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    commands = []

    def timed(command: list[str], folder: Path) -> tuple[float, str]:
        commands.append(command)
        assert (folder / "mnist_cnn/data/arrays.py").exists()
        if command[0] == "dvc":
            assert succeed(folder, "dvc", "root").strip() == "."
            (folder / "metrics").mkdir()  # fails if the copy has results
        (folder / "metrics/metrics.json").write_text('{"accuracy": 0.5}')
        return 3.0 / len(commands), json.dumps({"accuracy": 0.25})

    monkeypatch.setattr(compare, "timed", timed)
    monkeypatch.setattr(compare, "run_stage", lambda *_: (1.0, 2.0))
    compare.main(runs=1)
    assert commands[0] == ["dvc", "repro", "--force"]
    assert "median ratio: 2.00" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_peak_memory_is_in_megabytes_of_a_million_bytes(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/prepare.py").write_text("b'1' * 500_000_000")
    program = """if True:
        import sys
        from pathlib import Path
        from benchmarks.compare import run_stage
        print(run_stage("prepare", Path(sys.argv[1]))[1])
    """
    # In a new process: until it starts the stage, a child counts its parent's memory.
    peak = float(succeed(ROOT, "python", "-c", program, str(tmp_path)))
    assert 500 < peak < 550
