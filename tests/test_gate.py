"""The check on the metrics: its arithmetic, models that are worse or only other, its command."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dvc.cli
import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import yaml
from scipy.stats import binomtest

from benchmarks.contestants import mnist_arrays
from mnist_cnn import gate, scoring
from mnist_cnn.arrays import Arrays
from mnist_cnn.errors import InputError
from mnist_cnn.files import write_csv
from mnist_cnn.network import build_network, make_deterministic, predict
from mnist_cnn.training import fit
from tests.conftest import PARAMS, commit_all, misread, run, set_params, succeed


def results(predictions: pd.DataFrame, path: Path) -> gate.Results:
    write_csv(predictions, path)
    return gate.Results({"accuracy": 0.9}, gate.parse_predictions(path.read_bytes()), "a test set")


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (0, 5), (12, 8), (30, 10), (113, 40)])
def test_the_probability_is_that_of_the_exact_test(lost: int, won: int) -> None:
    expected = binomtest(lost, lost + won, 0.5, alternative="greater").pvalue if lost + won else 1.0
    assert gate.mcnemar(lost, won) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("lost", "won", "verdict"),
    [
        (0, 0, "pass"),
        (40, 40, "pass"),
        (10, 60, "pass"),
        (48, 36, "pass"),  # a drop that chance explains: p = 0.115
        (5, 0, "pass"),  # p = 0.031, but no more than is tolerated
        (6, 0, "fail"),
        (50, 30, "fail"),
    ],
)
def test_only_a_drop_beyond_chance_and_tolerance_fails(lost: int, won: int, verdict: str) -> None:
    assert gate.check_regression(PARAMS.gate, lost, won, 10_000).verdict == verdict


def test_floors_and_ceilings_include_their_bound() -> None:
    params = PARAMS.gate.model_copy(
        update={"floors": {"accuracy": 0.5, "recall": 0.5}, "ceilings": {"loss": 2, "size": 10}}
    )
    found = gate.Results(
        {"accuracy": 0.5, "recall": 0.499, "loss": 2.0, "size": 11},
        np.empty(0, gate.PREDICTIONS_DTYPE),
        "",
    )
    before = found._replace(metrics={"accuracy": 0.25, "loss": 3.0})
    rows = gate.check_bounds(params, found, before)
    assert rows == [
        ("accuracy", ">= 0.5", "0.5", "0.25", "+0.25", "pass"),
        ("recall", ">= 0.5", "0.499", "", "", "fail"),
        ("loss", "<= 2", "2", "3", "-1", "pass"),
        ("size", "<= 10", "11", "", "", "fail"),
    ]


def test_lost_and_won_images_are_told_apart(tmp_path: Path) -> None:
    table = pd.DataFrame({"index": range(4), "actual": [1, 2, 3, 4], "predicted": [1, 2, 0, 0]})
    before = results(table.assign(confidence=0.5), tmp_path / "before.csv")
    now = results(table.assign(predicted=[1, 7, 3, 9], confidence=0.5), tmp_path / "now.csv")
    lost, won = gate.compare(now, before)
    assert gate.listed(lost, now) == "1 (2 as 7)"
    assert gate.listed(won, before) == "2 (3 as 0)"
    assert gate.listed(np.array([2, 1]), before) == "2 (3 as 0), 1 (2 as 2)"


@pytest.mark.parametrize(("test_set", "last"), [("another test set", 4), ("a test set", 5)])
def test_other_test_images_are_refused(tmp_path: Path, test_set: str, last: int) -> None:
    table = pd.DataFrame({"index": [0, 1], "actual": [3, 4], "predicted": [3, 0]})
    before = results(table.assign(confidence=0.5), tmp_path / "before.csv")
    now = results(table.assign(confidence=0.5, actual=[3, last]), tmp_path / "now.csv")
    with pytest.raises(InputError, match="the baseline was evaluated on another test set"):
        gate.compare(now._replace(test_set=test_set), before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, gate.Results]:
    """Results on MNIST's test images: of the default network after 3 epochs on half the training
    images, of the same from another seed, and of three that are worse."""
    (images, labels, _), test = mnist_arrays()
    train = Arrays(images[::2], labels[::2])
    few = Arrays(test.images[:10], test.labels[:10])
    folder = tmp_path_factory.mktemp("trained")

    def evaluated(network: keras.Sequential, name: str) -> gate.Results:
        probabilities = predict(network, test.images, 1000)
        return results(scoring.predictions(test.labels, probabilities), folder / f"{name}.csv")

    def fitted(labels: npt.NDArray[np.int64], seed: int, epochs: int) -> keras.Sequential:
        make_deterministic(seed)
        network = build_network(PARAMS.model, (28, 28, 1), 10)
        params = PARAMS.train.model_copy(update={"seed": seed, "epochs": epochs})
        for _ in fit(network, Arrays(train.images, labels), few, params):
            pass
        return network

    random = np.random.default_rng(0)
    some = np.flatnonzero(random.random(len(train.labels)) < 0.2)
    shuffled = train.labels.copy()
    shuffled[some] = random.permutation(shuffled[some])

    network = fitted(train.labels, seed=1, epochs=3)
    found = {
        "baseline": evaluated(network, "baseline"),
        "another seed": evaluated(fitted(train.labels, seed=3, epochs=3), "seed"),
        "fewer epochs": evaluated(fitted(train.labels, seed=3, epochs=1), "epochs"),
        "shuffled labels": evaluated(fitted(shuffled, seed=1, epochs=3), "labels"),
    }
    kernels, *rest = network.get_weights()
    kernels[..., :8] = 0
    network.set_weights([kernels, *rest])
    return found | {"damaged weights": evaluated(network, "weights")}


@pytest.mark.parametrize(
    ("candidate", "verdict"),
    [
        ("baseline", "pass"),
        ("another seed", "pass"),
        ("fewer epochs", "fail"),
        ("shuffled labels", "fail"),
        ("damaged weights", "fail"),
    ],
)
def test_a_slightly_worse_model_fails_and_noise_passes(
    trained: dict[str, gate.Results], candidate: str, verdict: str
) -> None:
    lost, won = gate.compare(trained[candidate], trained["baseline"])
    check = gate.check_regression(PARAMS.gate, len(lost), len(won), 10_000)
    assert check.verdict == verdict, check
    # Worse only by a little, none of them broken.
    predictions = trained[candidate].predictions
    assert (predictions["actual"] == predictions["predicted"]).mean() > 0.97


Command = Callable[..., tuple[int, str, str]]
Change = Callable[[Path], None]


@pytest.fixture
def check(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """The command, run in the module's pipeline: exit code, output and errors. Afterwards the
    pipeline is put back to what was committed."""
    monkeypatch.chdir(pipeline)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gate", *arguments])
        with pytest.raises(SystemExit) as stop:
            gate.main()
        return int(stop.value.code or 0), *capsys.readouterr()

    yield command
    succeed(pipeline, "git", "checkout", "--quiet", "--force", "main")
    succeed(pipeline, "git", "clean", "--quiet", "--force")


def edit(file: str, old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return change


def record() -> None:
    """Have dvc.lock record the results as they are."""
    assert dvc.cli.main(["commit", "--quiet", "--force"]) == 0


def recorded(file: str, old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        edit(file, old, new)(folder)
        record()

    return change


def without_predictions(folder: Path) -> None:
    (folder / "metrics/predictions.csv").unlink()


def another_test_set(folder: Path) -> None:
    lock = (folder / "dvc.lock").read_text()
    (digest,) = {
        dep["md5"]
        for dep in yaml.safe_load(lock)["stages"]["evaluate"]["deps"]
        if dep["path"] == gate.TEST_SET
    }
    (folder / "dvc.lock").write_text(lock.replace(digest, "0" * 32))


def test_the_committed_results_belong_to_the_committed_files(clone: Path) -> None:
    """Whether they are good is not for the tests to tell."""
    done = run(clone, "python", "-m", "mnist_cnn.gate")
    assert done.returncode in (0, 1), done.stderr


def test_the_report_has_each_check_with_its_limit_and_difference(
    pipeline: Path, check: Command
) -> None:
    misread(pipeline, 60)
    code, printed, _ = check("--baseline", "main", "--markdown", "report.md")
    assert code == 1
    assert re.search(r"accuracy +>= 0\.6 +0\.\d+ +0\.\d+ +\+0 +pass", printed)
    row = r"no regression +drop <= 0\.0005 or p >= 0\.05 +60 lost, 0 won, p = \S+ +-0\.006 +fail"
    assert re.search(row, printed)
    listing = r"60 lost against main: \d+ \(\d as \d\), .+ and\s+20\s+more"
    assert re.search(listing, printed, re.DOTALL)
    report = (pipeline / "report.md").read_text()
    assert report.startswith("## Metric check: fail (no regression)\n\n| check ")
    assert "<summary>60 lost against main</summary>" in report


def test_a_drop_that_chance_explains_passes(pipeline: Path, check: Command) -> None:
    misread(pipeline, 4)
    code, printed, _ = check("--baseline", "main", "--markdown", "report.md")
    assert code == 0
    assert "4 lost, 0 won" in printed
    assert (pipeline / "report.md").read_text().startswith("## Metric check: pass\n")


def test_a_check_of_nothing_is_refused(pipeline: Path, check: Command) -> None:
    set_params(pipeline, gate={"floors": {}, "ceilings": {}})
    code, _, errors = check()
    assert code == 2
    assert errors.startswith("error: params.yaml: gate.floors and gate.ceilings are empty: expec")


def test_a_floor_that_is_not_reached_fails(pipeline: Path, check: Command) -> None:
    set_params(pipeline, gate={"floors": {"accuracy": 1.0}})
    code, printed, _ = check()
    assert code == 1
    assert re.search(r"accuracy +>= 1 .+ fail", printed)


def test_an_experiment_can_be_the_baseline(pipeline: Path, check: Command) -> None:
    options = ["--temp", "--name", "fewer-bins", "--set-param", "evaluate.calibration_bins=7"]
    printed = succeed(pipeline, "dvc", "exp", "run", *options)
    assert "Running stage 'evaluate'" in printed
    assert "Running stage 'train'" not in printed
    assert not succeed(pipeline, "git", "status", "--porcelain")
    diff = succeed(pipeline, "dvc", "metrics", "diff", "fewer-bins", "--json")
    assert list(json.loads(diff)["metrics/metrics.json"]) == ["expected_calibration_error"]
    code, printed, _ = check("--baseline", "fewer-bins")
    assert code == 0
    assert "0 lost, 0 won" in printed


def test_data_that_is_not_checked_out_is_no_obstacle(pipeline: Path, tmp_path: Path) -> None:
    succeed(tmp_path, "git", "clone", "--quiet", str(pipeline), "without data")
    assert not (tmp_path / "without data/models/model.keras").exists()
    succeed(tmp_path / "without data", "python", "-m", "mnist_cnn.gate", "--baseline", "HEAD")


def test_nothing_slow_is_imported(pipeline: Path) -> None:
    program = """
import sys
from mnist_cnn import gate
sys.argv[1:] = ["--baseline", "main"]
try:
    gate.main()
except SystemExit as stop:
    assert not stop.code
assert not {"tensorflow", "keras", "pandas", "sklearn", "scipy.stats"} & set(sys.modules)
"""
    succeed(pipeline, "python", "-c", program)


METRICS, PREDICTIONS = gate.METRICS, gate.PREDICTIONS


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (edit("params.yaml", "epochs: 2", "epochs: 3"), "does not match .* (stages train)"),
        (edit("stages/evaluate.py", "import", "import "), "does not match .* (stages evaluate)"),
        (edit("dvc.yaml", "cmd: python", "cmd: py"), "does not match .* (stages prepare)"),
        (edit("dvc.lock", "md5: ", "md5: 0"), "does not match"),
        (
            edit("dvc.lock", "stages:", "stages: {"),
            "dvc.lock cannot be compared with the workspace (while parsing a flow mapping",
        ),
        (
            lambda folder: (folder / "dvc.lock").unlink(),
            "dvc.lock cannot be compared with the work",
        ),
        (lambda folder: (folder / "dvc.yaml").unlink(), "does not match .* (stages "),
        (lambda folder: (folder / "stages/train.py").unlink(), "does not match .* (stages train)"),
        (edit("dvc.yaml", "desc: the network", "frozen: true\n    desc: the"), "(stages train)"),
        (edit("dvc.yaml", "      - model\n      - train\n", "      - model\n"), "(stages train)"),
        (
            edit("params.yaml", "  floors:\n    accuracy: 0.6\n", "  floors: {x: 0}\n"),
            "params.yaml: x, named under gate, is not a metric",
        ),
        (edit(METRICS, "accuracy", "acuracy"), "does not match .* (stages evaluate)"),
        (edit(PREDICTIONS, "\n5,", "\n6,"), "does not match .* (stages evaluate)"),
        (
            edit("params.yaml", " accuracy: 0", " acuracy: 0"),
            "params.yaml: acuracy, named under gate, is not a metric: expected one of errors, acc",
        ),
        (
            edit("params.yaml", " accuracy: 0.6", " accuracy: .nan"),
            "params.yaml: gate.floors.accuracy is nan: expected a number",
        ),
        (
            recorded(METRICS, '"loss": ', '"loss": NaN, "was": '),
            "the workspace: the results cannot be read (loss is nan)",
        ),
        (
            recorded(METRICS, '"loss": ', '"loss": true, "was": '),
            "the workspace: the results cannot be read (loss is True)",
        ),
        (
            recorded(METRICS, '"loss"', '"lost"'),
            "params.yaml: loss, named under gate, is not a metric",
        ),
        (
            recorded(PREDICTIONS, "\n5,", "\nfive,"),
            "the workspace: the results cannot be read (invalid literal for int() with",
        ),
        (
            recorded(METRICS, '"loss": ', f'"loss": {"1" * 400}, "was": '),
            "the workspace: the results cannot be read (int too large to convert to float)",
        ),
        (
            recorded(PREDICTIONS, "\n5,", "\n4,"),
            "(metrics/predictions.csv does not list the images one by one)",
        ),
        (
            recorded(METRICS, '"errors": ', '"errors": 1'),
            "errors, metrics/predictions.csv ",
        ),
        (
            recorded(PREDICTIONS, "index,", "number,"),
            "the workspace: the results cannot be read (metrics/predictions.csv has the columns",
        ),
    ],
)
def test_a_workspace_that_cannot_be_checked_is_one_line_and_exit_code_2(
    pipeline: Path, check: Command, change: Change, complaint: str
) -> None:
    change(pipeline)
    assert_refused(pipeline, check, "main", complaint)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (without_predictions, "baseline other: the results cannot be read ("),
        (
            edit(PREDICTIONS, "\n5,", "\n6,"),
            "baseline other: the results cannot be read (metrics/predictions.csv is not the one",
        ),
        (another_test_set, "the baseline was evaluated on another test set"),
    ],
)
def test_a_baseline_that_cannot_be_compared_is_one_line_and_exit_code_2(
    pipeline: Path, check: Command, change: Change, complaint: str
) -> None:
    succeed(pipeline, "git", "checkout", "--quiet", "-B", "other")
    change(pipeline)
    commit_all(pipeline)
    succeed(pipeline, "git", "checkout", "--quiet", "main")
    assert_refused(pipeline, check, "other", complaint)


def test_an_unknown_baseline_is_one_line_and_exit_code_2(pipeline: Path, check: Command) -> None:
    complaint = "baseline nosuch: unknown Git revision 'nosuch': expected a commit, branch"
    assert_refused(pipeline, check, "nosuch", complaint)


def assert_refused(folder: Path, check: Command, baseline: str, complaint: str) -> None:
    code, _, errors = check("--baseline", baseline, "--markdown", "report.md")
    assert code == 2
    pattern = re.escape(complaint).replace(re.escape(".*"), ".*")
    assert re.match(rf"error: .*{pattern}.*\n$", errors), errors
    report = (folder / "report.md").read_text()
    assert report == f"## Metric check: it cannot be told\n\n{errors.removeprefix('error: ')}"


def test_without_git_nothing_can_be_checked(clone: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(clone, tmp_path / "copy", ignore=shutil.ignore_patterns(".git", "data"))
    done = run(copy, "python", "-m", "mnist_cnn.gate")
    assert done.returncode == 2
    assert "is not a git repository): expected a whole, writable Git clone" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_shallow_clone_without_the_baseline_says_how_to_get_it(
    pipeline: Path, tmp_path: Path
) -> None:
    source = f"file://{pipeline}"
    succeed(tmp_path, "git", "clone", "--quiet", "--depth", "1", source, "shallow")
    done = run(tmp_path / "shallow", "python", "-m", "mnist_cnn.gate", "--baseline", "main~1")
    assert done.returncode == 2
    assert "`git fetch --unshallow`" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("baseline", ["", "--"])
def test_an_empty_baseline_is_refused(check: Command, baseline: str) -> None:
    code, _, errors = check(f"--baseline={baseline}")
    assert code == 2
    # Up to Python 3.12, argparse makes a list of "--".
    assert re.search("--baseline is empty|unknown Git revision '--'", errors)


def test_a_report_that_cannot_be_written_is_exit_code_2(check: Command) -> None:
    code, _, errors = check("--markdown", "no/such/folder.md")
    assert code == 2
    assert errors.startswith("error: no/such/folder.md cannot be written (No such file")
