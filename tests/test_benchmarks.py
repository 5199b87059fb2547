import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

from benchmarks import compare, datasets, search
from benchmarks.contestants import ALTERNATIVES, compose
from benchmarks.race import RUNS, picture, summary
from benchmarks.rivals import RIVALS
from mnist_cnn.data import raw
from mnist_cnn.params import load_params
from tests.helpers import PARAMS, ROOT, succeed
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
    for name in RUNS.keys() - ALTERNATIVES.keys() - RIVALS.keys() - {"default"}:
        assert compose(name) != compose("default")


def test_the_search_keeps_the_first_and_the_better_half_and_goes_on_where_it_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained: list[tuple[float, int]] = []

    def train(settings: dict[str, dict[str, float]], fold: int) -> tuple[int, float]:
        rate = settings["train"]["learning_rate"]
        if len(trained) == 6:
            raise KeyboardInterrupt
        trained.append((rate, fold))
        return int(100 * rate + fold), settings["train"]["epochs"]

    monkeypatch.setattr(search, "ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr(search, "RESULTS", tmp_path / "search.csv")
    monkeypatch.setattr(search, "train", train)
    rates = {f"rate {rate}": {"train": {"learning_rate": rate}} for rate in (4, 5, 3, 2)}
    content = {"folds_per_round": 1, "base": {"train": {"epochs": 2}}, "candidates": rates}
    with pytest.raises(KeyboardInterrupt):
        search.search("fast", content, {"train": {"epochs": 1}})
    first = trained.copy()
    trained.clear()
    search.search("fast", content, {"train": {"epochs": 1}})
    assert first == [(4, 1), (5, 1), (3, 1), (2, 1), (2, 2), (3, 2)]
    assert trained == [(4, 2), (2, 3), (3, 3), (4, 3)]

    results = search.summary(pd.read_csv(search.RESULTS))
    assert results.iloc[0].to_list() == ["fast", "rate 2", 3, 202.0, 2.0]
    assert results["candidate"].to_list() == ["rate 2", "rate 3", "rate 4", "rate 5"]


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


def test_the_example_datasets_are_what_they_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(datasets, "PHOTOGRAPHS", 8)
    monkeypatch.setattr(datasets, "FOLDERS", {"train": 2, "val": 1, "test": 1})
    monkeypatch.setattr(datasets, "SHAPES", {"circle": 3, "ring": 2})
    for name in ("", "again"):
        datasets.write_photographs(tmp_path / name / "photographs", tmp_path / name / "new")
        datasets.write_letters(tmp_path / name / "letters")
        datasets.write_shapes(tmp_path / name / "shapes.npz")
    for path in (tmp_path / "again").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / path.relative_to(tmp_path / "again")).read_bytes()

    monkeypatch.setattr(raw, "RAW", tmp_path)
    read = {}
    for source in ("photographs", "letters", "shapes.npz"):
        changes = {"source": source, "image_size": [32, 32]}
        (tmp_path / f"{source}.scratch").mkdir()
        params = PARAMS.prepare.model_copy(update=changes)
        read[source] = raw.load_raw(params, tmp_path / f"{source}.scratch")
    photographs, letters, shapes = read.values()
    assert photographs.classes.tolist() == ["bolt", "gear", "key", "nut", "washer", "wrench"]
    assert photographs.train_images.shape == (48, 32, 32, 3)
    assert {Path(path).name for path in photographs.left_out} == {"Thumbs.db"}
    assert "".join(letters.classes) == datasets.LETTERS
    sets = (letters.train_images, letters.validation_images, letters.test_images)
    assert [images.shape for images in sets] == [(n, 32, 32, 1) for n in (20, 10, 10)]
    assert shapes.train_images.shape == (5, 32, 32)
    assert shapes.classes[shapes.train_labels].tolist() == ["circle"] * 3 + ["ring"] * 2

    files = (tmp_path / "photographs").rglob("IMG*")
    pictures = [Image.open(path) for path in files]
    sizes = np.array([picture.size for picture in pictures])
    assert sizes.min() >= 90
    assert sizes.max() <= 500
    assert {width > height for width, height in sizes} == {True, False}
    turned = {picture.getexif().get(ExifTags.Base.Orientation, 1) for picture in pictures}
    assert turned == {1, 6}
