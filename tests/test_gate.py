"""The metric check: its arithmetic, worse and merely different models, and the command."""

import csv
import hashlib
import html
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from mnist_cnn import gate
from mnist_cnn.data.arrays import Arrays
from mnist_cnn.data.images import normalize
from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.errors import InputError
from mnist_cnn.params import ConvolutionParams, LimitParams, ModelParams, load_params
from tests.helpers import PARAMS, commit_all, set_params, succeed

METRICS, MISCLASSIFIED, MATRIX = gate.METRICS, gate.MISCLASSIFIED, gate.CONFUSION_MATRIX
NONE = gate.Results("none", {"accuracy": 1.0}, {}, {("0", "0"): 10_000}, "a test set")

LIMITS = {"floors": {"accuracy": 0.5}, "ceilings": {"loss": 9.0}}

Change = Callable[[Path], None]


def edit(file: str, old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return change


def recorded(file: str, old: str, new: str) -> Change:
    """Edit a result, and record the new version in dvc.lock."""

    def change(folder: Path) -> None:
        before = md5(folder / file)
        edit(file, old, new)(folder)
        edit("dvc.lock", before, md5(folder / file))(folder)

    return change


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def misread(folder: Path, lost: int) -> None:
    """Change the results, and dvc.lock, so that the first `lost` correctly classified images are
    misclassified; if negative, so that the first misclassified images are correct."""
    text = {name: (folder / name).read_text() for name in (METRICS, MISCLASSIFIED, MATRIX)}
    mistakes, _ = gate.parse_misclassified(text[MISCLASSIFIED].encode())
    counts = Counter(gate.parse_confusion_matrix(text[MATRIX].encode()))
    errors = len(mistakes)
    for index in list(mistakes)[: max(-lost, 0)]:
        actual, predicted = mistakes.pop(index)
        counts.update({(actual, predicted): -1, (actual, actual): 1})
    for index in [i for i in range(counts.total()) if i not in mistakes][: max(lost, 0)]:
        actual = max(map(str, range(10)), key=lambda digit: counts[digit, digit])
        mistakes[index] = actual, str(9 - int(actual))
        counts.update({mistakes[index]: 1, (actual, actual): -1})
    assert len(mistakes) == errors + lost
    rows = [f"{index},{','.join(mistakes[index])},0.5" for index in sorted(mistakes)]
    cells = [f"{','.join(pair)},{count}" for pair, count in sorted((+counts).items())]
    metrics = json.loads(text[METRICS]) | gate.recompute_metrics(+counts, 0)
    metrics["errors"] = errors + lost
    for name, old, new in (
        (METRICS, text[METRICS], json.dumps(metrics)),
        (
            MISCLASSIFIED,
            text[MISCLASSIFIED],
            "\n".join(["index,actual,predicted,confidence", *rows]),
        ),
        (MATRIX, text[MATRIX], "\n".join(["actual,predicted,count", *cells])),
    ):
        recorded(name, old, new)(folder)


@pytest.mark.parametrize(
    ("lost", "won", "verdict"),
    [
        (0, 0, "pass"),
        (40, 40, "pass"),
        (10, 60, "pass"),
        (48, 36, "pass"),  # not significant: p = 0.115
        (5, 0, "pass"),  # significant, p = 0.031, but tolerated
        (6, 0, "fail"),
        (50, 30, "fail"),
    ],
)
def test_only_a_drop_beyond_chance_and_tolerance_fails(lost: int, won: int, verdict: str) -> None:
    assert gate.check_regression(PARAMS.gate, "main", lost, won, 10_000).verdict == verdict


def test_floors_and_ceilings_include_their_bound() -> None:
    limits = LimitParams(floors={"accuracy": 0.5, "recall": 0.5}, ceilings={"loss": 2, "size": 10})
    found = NONE._replace(metrics={"accuracy": 0.5, "recall": 0.499, "loss": 2.0, "size": 11})
    before = NONE._replace(metrics={"accuracy": 0.25, "loss": 3.0})
    assert gate.check_limits(limits, found, before) == [
        ("accuracy", "pass", "0.5", ">= 0.5", "0.25", "+0.25"),
        ("recall", "fail", "0.499", ">= 0.5", "", ""),
        ("loss", "pass", "2", "<= 2", "3", "-1"),
        ("size", "fail", "11", "<= 10", "", ""),
    ]


def test_a_limit_on_an_unknown_metric_is_refused() -> None:
    limits = LimitParams(floors={}, ceilings={"acuracy": 0.5})
    found = NONE._replace(metrics={"accuracy": 0.99, "errors": 9})
    message = (
        "params.yaml: acuracy, named under gate.limits, is not a metric: expected one of accur"
    )
    with pytest.raises(InputError, match=message):
        gate.check_limits(limits, found, None)


def results_of(
    right: list[int], wrong: list[int], loss: float = 0.02, calibration: float = 0.01
) -> gate.Results:
    """Results with these numbers of test images of each class."""
    matrix = {(str(i), str(i)): count for i, count in enumerate(right) if count}
    matrix |= {(str(i), "another"): count for i, count in enumerate(wrong) if count}
    metrics = {"loss": loss, "expected_calibration_error": calibration, "model_size": 2_777_142}
    return NONE._replace(matrix=matrix, metrics=metrics)


@pytest.mark.parametrize(
    ("results", "floors", "ceilings"),
    [
        # The interval of 0 errors in n images ends at 3.8415 / (n + 3.8415); of 5 in 1,000, at
        # 0.011651, which is 0.006651 above the rate.
        (results_of([1000], [0]), [0.9923, 0.9923], [0.048, 0.028]),
        (results_of([995], [5]), [0.976, 0.976], [0.054, 0.034]),
        # All of 180 images right, with a loss of 0 to 6 decimals.
        (results_of([18] * 10, [0] * 10, 0.0, 0.0), [0.958, 0.64], [0.042, 0.042]),
        # A perfect class of 3 images says less than one of 500 with 5 mistakes.
        (results_of([495, 3], [5, 0]), [0.953], [0.067, 0.047]),
        (results_of([495, 9], [5, 0]), [0.954, 0.4], [0.066, 0.046]),
        # More than half are wrong.
        (results_of([3, 3], [97, 97], 2.0, 0.1), [], [4.1, 0.24]),
    ],
)
def test_limits_are_suggested_from_the_unfavourable_end_of_the_interval(
    results: gate.Results, floors: list[float], ceilings: list[float]
) -> None:
    names = ["accuracy", "worst_class_recall"]
    assert gate.suggest_limits(results) == {
        "floors": dict(zip(names, floors, strict=False)),
        "ceilings": dict(
            zip(["loss", "expected_calibration_error"], ceilings, strict=True), model_size=5_600_000
        ),
    }


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(0.00615, 0.013), (0.0305, 0.061), (0.005, 0.01), (0.05001, 0.11), (2801014, 5700000)],
)
def test_a_ceiling_is_rounded_up_unless_it_is_exact(value: float, rounded: float) -> None:
    assert float(gate.twice(value)) == rounded


def test_lost_and_won_images_are_told_apart() -> None:
    before = NONE._replace(misclassified={2: ("3", "0"), 3: ("4", "9")})
    now = NONE._replace(misclassified={0: ("1", "8"), 1: ("2", "7"), 3: ("4", "5")})
    lost, won = gate.compare(now, before)
    assert gate.describe_images(lost, now) == "0 (1 as 8), 1 (2 as 7)"
    assert gate.describe_images(won, before) == "2 (3 as 0)"
    many = NONE._replace(misclassified=dict.fromkeys(range(50), ("1", "7")))
    assert gate.describe_images(list(range(50)), many).endswith(", 39 (1 as 7) and 10 more")


@pytest.mark.parametrize(
    "other", [NONE._replace(test_set="another"), NONE._replace(matrix={("0", "0"): 9_999})]
)
def test_other_test_images_are_refused(other: gate.Results) -> None:
    with pytest.raises(InputError, match=r"v1\.0 was evaluated on another test set: .+ tag a new"):
        gate.compare(NONE, other._replace(source="v1.0"))


def test_class_names_can_be_any_text() -> None:
    names = ['Größe, "L"', "new\nline", "a;b\t'c'", "🙂"]
    mistakes = pd.DataFrame(
        {"index": [3, 7], "actual": names[:2], "predicted": names[2:], "confidence": [0.5, 1.0]}
    )
    counts = pd.DataFrame(
        {"actual": names[:3], "predicted": [*names[2:], names[2]], "count": [1, 1, 8]}
    )
    results = gate.parse_results(
        "names",
        "a test set",
        b'{"errors": 2}',
        mistakes.to_csv(index=False).encode(),
        counts.to_csv(index=False).encode(),
    )
    assert results.misclassified == {3: (names[0], names[2]), 7: (names[1], names[3])}


@pytest.fixture(scope="module")
def trained() -> dict[str, gate.Results]:
    """Results on MNIST's test images: of a network trained for 2 epochs on 18,000 images, of one
    from another seed, and of three that are slightly worse."""
    from mnist_cnn.evaluation.scores import misclassified_images
    from mnist_cnn.model.backend import keras, set_seed
    from mnist_cnn.model.network import build_network, predict_proba
    from mnist_cnn.training.fit import fit

    mnist = load_mnist()
    train = Arrays(normalize(mnist.train_images[:18_000]), mnist.train_labels[:18_000].astype(int))
    test = Arrays(normalize(mnist.test_images), mnist.test_labels.astype(int))
    few = Arrays(test.images[:10], test.labels[:10])
    model = ModelParams(
        convolutions=[
            ConvolutionParams(filters=8, kernel_size=5, strides=2),
            ConvolutionParams(filters=16, kernel_size=3, pool_size=2),
        ],
        batch_normalization=True,
        global_average_pooling=False,
        dropout=0.0,
        dense_units=64,
    )
    settings = {"epochs": 2, "learning_rate": 0.02, "translation": 0.0}
    found = {}

    def evaluate(name: str, network: keras.Sequential) -> None:
        table = misclassified_images(test.labels, predict_proba(network, test.images))
        mistakes, _ = gate.parse_misclassified(table.to_csv(index=False).encode())
        found[name] = NONE._replace(misclassified=mistakes)

    def train_network(name: str, labels: npt.NDArray[np.int64], seed: int) -> keras.Sequential:
        set_seed(seed)
        network = build_network(model, (28, 28, 1), 10)
        params = PARAMS.train.model_copy(update={"seed": seed, **settings})
        for epoch in fit(network, Arrays(train.images, labels), few, params):
            evaluate(name if epoch["epoch"] == 2 else f"{name}, 1 epoch", network)
        return network

    random = np.random.default_rng(0)
    some = np.flatnonzero(random.random(len(train.labels)) < 0.2)
    shuffled = train.labels.copy()
    shuffled[some] = random.permutation(shuffled[some])

    train_network("another seed", train.labels, seed=2)
    train_network("shuffled labels", shuffled, seed=1)
    network = train_network("baseline", train.labels, seed=1)
    kernels, *rest = network.get_weights()
    kernels[..., :3] = 0
    network.set_weights([kernels, *rest])
    evaluate("damaged weights", network)
    return found


@pytest.mark.parametrize(
    ("candidate", "verdict"),
    [
        ("baseline", "pass"),
        ("another seed", "pass"),
        ("another seed, 1 epoch", "fail"),
        ("shuffled labels", "fail"),
        ("damaged weights", "fail"),
    ],
)
def test_a_slightly_worse_model_fails_and_noise_passes(
    trained: dict[str, gate.Results], candidate: str, verdict: str
) -> None:
    lost, won = gate.compare(trained[candidate], trained["baseline"])
    check = gate.check_regression(PARAMS.gate, "baseline", len(lost), len(won), 10_000)
    assert check.verdict == verdict, check
    assert len(trained[candidate].misclassified) < 300  # only slightly worse, not broken


@pytest.fixture
def workspace(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The module's pipeline as the current folder; afterwards it's reset to the last commit."""
    monkeypatch.chdir(pipeline)
    yield pipeline
    succeed(pipeline, "git", "checkout", "--quiet", "--force", "main")
    succeed(pipeline, "git", "clean", "--quiet", "--force")
    for tag in succeed(pipeline, "git", "tag").split():
        succeed(pipeline, "git", "tag", "--delete", tag)


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A function that runs the command in the current folder: exit code, stdout and stderr."""

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gate", *arguments])
        with pytest.raises(SystemExit) as stop:
            gate.main()
        return int(stop.value.code or 0), *capsys.readouterr()

    return command


def commit_on_branch(folder: Path, name: str, change: Change) -> None:
    """Commit a change on a new branch, and return to main."""
    succeed(folder, "git", "checkout", "--quiet", "-B", name)
    change(folder)
    commit_all(folder)
    succeed(folder, "git", "checkout", "--quiet", "main")


def assert_inconclusive(check: Command, arguments: list[str], complaint: str) -> None:
    """Assert that the command refuses to check, with one line and in the report."""
    code, _, errors = check(*arguments, "--markdown", "report.md")
    assert code == 2
    assert re.fullmatch(f"error: {complaint}.*\n", errors), errors
    report = html.unescape(Path("report.md").read_text())
    assert report == f"## Metric check: inconclusive\n\n{errors.removeprefix('error: ')}"


def test_the_committed_results_belong_to_the_committed_files(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Command
) -> None:
    """The tests don't judge whether the results are good."""
    monkeypatch.chdir(shutil.copytree(clone, tmp_path / "clone"))
    code, _, errors = check()
    assert code in (0, 1), errors


def test_the_report_has_each_check_with_its_limit_and_difference(
    workspace: Path, check: Command
) -> None:
    misread(workspace, 45)
    code, printed, _ = check("--baseline", "main", "--markdown", "report.md")
    assert code == 1
    assert re.search(r"accuracy +pass +0\.\d+ +>= 0\.6 +0\.\d+ +-0\.1125\n", printed)
    row = r"no regression against main +fail +45 lost, 0 won, p = \S+ +"
    assert re.search(rf"{row}drop <= 0\.0005 or p >= 0\.05 +-0\.1125\n", printed)
    listing = r"45 lost against main: \d+ \(\d as \d\), .+ and\s+5\s+more"
    assert re.search(listing, printed, re.DOTALL)
    assert " won against" not in printed
    report = (workspace / "report.md").read_text()
    assert report.startswith("## Metric check: fail (no regression against main)\n\n| check ")
    assert "<summary>45 lost against main</summary>" in report


def test_an_experiment_can_be_the_baseline(workspace: Path, check: Command) -> None:
    misread(workspace, -3)
    succeed(workspace, "dvc", "exp", "save", "--quiet", "--name", "three-more")
    succeed(workspace, "git", "checkout", "--quiet", "--force", "main")
    code, printed, _ = check("--baseline", "three-more", "--markdown", "report.md")
    assert code == 0
    assert "3 lost, 0 won, p = 0.12" in printed  # not significant
    assert (workspace / "report.md").read_text().startswith("## Metric check: pass\n")


def test_small_drops_add_up_against_the_latest_release(workspace: Path, check: Command) -> None:
    succeed(workspace, "git", "tag", "--annotate", "v1.0", "-m", "a release")
    commit_on_branch(workspace, "parent", lambda folder: misread(folder, 4))
    succeed(workspace, "git", "checkout", "--quiet", "parent")
    assert check()[0] == 0
    misread(workspace, 4)
    code, printed, _ = check("--baseline", "parent")
    assert code == 1
    assert re.search(r"no regression against parent +pass +4 lost, 0 won, ", printed)
    assert re.search(r"no regression against v1\.0 +fail +8 lost, 0 won, ", printed)
    assert "8 lost against v1.0: " in printed


def test_a_release_that_is_the_baseline_is_reported_once(workspace: Path, check: Command) -> None:
    succeed(workspace, "git", "tag", "--annotate", "v1.0", "-m", "a release")
    code, printed, _ = check("--baseline", "main")
    assert code == 0
    assert printed.count("no regression against") == printed.count("against main") == 1


def test_a_release_that_cannot_be_compared_is_inconclusive(workspace: Path, check: Command) -> None:
    """Such as one made before misclassified images were listed."""
    before = edit("dvc.lock", MISCLASSIFIED, "metrics/predictions.csv")
    commit_on_branch(workspace, "before", before)
    succeed(workspace, "git", "tag", "v1.0", "before")
    succeed(workspace, "git", "checkout", "--quiet", "before")
    succeed(workspace, "git", "revert", "--no-edit", "HEAD")
    complaint = (
        r"v1\.0: the results cannot be read \(dvc\.lock has no metrics/misclassified\.csv\): "
        ".+ if this is the latest release, tag a new one once you accept the change"
    )
    assert_inconclusive(check, [], complaint)


def test_a_release_is_the_nearest_version_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        succeed(tmp_path, "git", *arguments)

    def commit(tag: str) -> None:
        git("commit", "--quiet", "--allow-empty", "-m", tag)
        git("tag", tag)

    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="the latest release is unknown: expected `git describe"):
        gate.latest_release()
    git("init", "--quiet", "--initial-branch", "main")
    commit("vision")
    assert gate.latest_release() is None
    commit("v9")
    commit("v10.0-rc1")
    commit("stable")
    git("checkout", "--quiet", "-b", "another")
    commit("v11")
    git("checkout", "--quiet", "main")
    assert gate.latest_release() == "v10.0-rc1"
    git("clone", "--quiet", "--depth", "1", f"file://{tmp_path}", "shallow")
    monkeypatch.chdir("shallow")
    with pytest.raises(InputError, match="`git fetch --unshallow --tags` gets them"):
        gate.latest_release()


def test_data_added_or_imported_with_dvc_can_be_checked(
    workspace: Path, small_pipeline: Path, check: Command
) -> None:
    """A .dvc file is a stage without a command."""
    assert Path("data/raw/digits.npz.dvc").exists()  # from `dvc add`
    name = "data/raw/imported.npz"
    source = [str(small_pipeline), "data/raw/digits.npz", "--out", name]
    succeed(workspace, "dvc", "import", "--quiet", *source)
    set_params(workspace, prepare={"source": "imported.npz"})
    succeed(workspace, "dvc", "commit", "--quiet", "--force")
    code, printed, errors = check("--baseline", "main")
    assert code == 0, errors
    assert "0 lost, 0 won" in printed
    edit("data/raw/imported.npz.dvc", "outs:\n- md5: ", "outs:\n- md5: 0")(workspace)
    Path(name).unlink()
    with pytest.raises(InputError, match=r"\(stages prepare\)"):
        gate.check_lock()


def test_data_that_is_not_checked_out_is_no_obstacle(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Command
) -> None:
    succeed(tmp_path, "git", "clone", "--quiet", str(pipeline), "without data")
    monkeypatch.chdir(tmp_path / "without data")
    assert not Path("models/model.keras").exists()
    code, _, errors = check("--baseline", "HEAD")
    assert code == 0, errors
    edit("params.yaml", "epochs: 2", "epochs: 3")(Path())
    with pytest.raises(InputError, match=r"\(stages train\)"):
        gate.check_lock()


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


def delete(file: str) -> Change:
    return lambda folder: (folder / file).unlink()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            [
                edit("dvc.yaml", "cmd: python -m stages.prepare", "cmd: py -m stages.prepare"),
                edit("params.yaml", "epochs: 2", "epochs: 3"),
                edit("stages/export.py", "import", "import "),
                edit(METRICS, "accuracy", "acuracy"),
            ],
            r"does not match the workspace \(stages prepare, train, export, evaluate\)",
        ),
        (
            [
                edit("dvc.yaml", "stages/prepare.py", "stages/nosuch.py"),
                delete("stages/train.py"),
                edit("dvc.yaml", "desc: Convert the", "frozen: true\n    desc: Convert the"),
                edit(MISCLASSIFIED, "\n8,", "\n9,"),
            ],
            r"does not match the workspace \(stages prepare, train, export, evaluate\)",
        ),
        (
            [
                edit("dvc.yaml", "      - data/prepared/test.npz\n", ""),
                edit("dvc.yaml", "      - model\n      - train\n", "      - model\n"),
                edit("dvc.yaml", "      - models/SHA256SUMS\n", "      - models/nosuch\n"),
                edit("dvc.yaml", "      - data/prepared/test.npz\n      - models/model.onnx\n", ""),
            ],
            r"does not match the workspace \(stages prepare, train, export, evaluate\)",
        ),
        (
            [
                edit("dvc.lock", "md5: ", "md5: 0"),
                edit("dvc.lock", "  train:", "  removed:\n    cmd: python\n  train:"),
            ],
            r"does not match the workspace \(stages prepare, removed\)",
        ),
        (
            [edit("dvc.lock", "stages:", "stages: {")],
            r"is not YAML \(while parsing a flow mapping",
        ),
        (
            [delete("dvc.lock")],
            r"cannot be read \(No such file or directory\)",
        ),
        (
            [delete("dvc.yaml")],
            r"cannot be read \(No such file or directory\)",
        ),
    ],
)
def test_results_of_other_files_are_refused(
    workspace: Path, changes: list[Change], complaint: str
) -> None:
    for change in changes:
        change(workspace)
    with pytest.raises(InputError, match=rf"^dvc.(lock|yaml) {complaint}.*$"):
        gate.check_lock()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (delete(MISCLASSIFIED), "No such file or directory: .+csv"),
        (
            edit(MISCLASSIFIED, "\n", "\n0,1,2,0.5\n"),
            "misclassified.csv is not the one that dvc.lock",
        ),
        (recorded(METRICS, '"loss": ', '"loss": NaN, "was": '), "loss is nan"),
    ],
)
def test_results_that_are_missing_or_damaged_are_refused(
    workspace: Path, change: Change, complaint: str
) -> None:
    change(workspace)
    pattern = (
        rf"^the workspace: the results cannot be read \(.*{complaint}.*; recreate them with .+$"
    )
    with pytest.raises(InputError, match=pattern):
        gate.read_results(None)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (delete(MISCLASSIFIED), "No such file or directory: .+csv"),
        (
            edit(MISCLASSIFIED, "\n", "\n0,1,2,0.5\n"),
            "misclassified.csv is not the one that dvc.lock",
        ),
        (
            edit("dvc.lock", MISCLASSIFIED, "metrics/predictions.csv"),
            "dvc.lock has no metrics/misc",
        ),
        (delete("dvc.lock"), "No such file or directory"),
    ],
)
def test_a_baseline_without_its_results_is_refused(
    workspace: Path, change: Change, complaint: str
) -> None:
    commit_on_branch(workspace, "other", change)
    pattern = rf"^other: the results cannot be read \(.*{complaint}.*; name another baseline; .+$"
    with pytest.raises(InputError, match=pattern):
        gate.read_results("other")


@pytest.mark.usefixtures("workspace")
def test_results_name_the_test_set_that_they_come_from() -> None:
    assert gate.read_results(None).test_set == md5(Path(gate.TEST_SET))
    assert gate.read_results("main") == gate.read_results(None)._replace(source="main")


RESULTS = {
    METRICS: '{"errors": 3, "loss": 0.5}',
    MISCLASSIFIED: "index,actual,predicted,confidence\n2,0,1,0.5\n3,1,0,0.6\n7,1,0,0.7\n",
    MATRIX: "actual,predicted,count\n0,0,4\n0,1,1\n1,0,2\n1,1,3\n",
}


def test_results_that_agree_can_be_read() -> None:
    results = gate.parse_results("", "", *map(str.encode, RESULTS.values()))
    assert results.images == 10
    assert results.misclassified == {2: ("0", "1"), 3: ("1", "0"), 7: ("1", "0")}


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        (METRICS, "0.5", "NaN", "loss is nan"),
        (METRICS, "0.5", "-Infinity", "loss is -inf"),
        (METRICS, "0.5", "true", "loss is True"),
        (METRICS, "0.5", '"0.5"', "loss is 0.5"),
        (METRICS, "0.5", "1" * 400, "int too large to convert to float"),
        (METRICS, "}", "", "Expecting"),
        (METRICS, "errors", "mistakes", "errors"),
        (METRICS, "3", "4", "metrics.json has 4 errors, metrics/misclassified.csv 3, metrics/conf"),
        (MISCLASSIFIED, "index", "number", "metrics/misclassified.csv has the columns ['number',"),
        (MISCLASSIFIED, "2,0", "two,0", "invalid literal for int() with base 10: 'two'"),
        (MISCLASSIFIED, "3,1", "2,1", "misclassified.csv doesn't list the images in increasing"),
        (MISCLASSIFIED, "3,1", "9,1", "misclassified.csv doesn't list the images in increasing"),
        (
            MISCLASSIFIED,
            "7,1",
            "10,1",
            "misclassified.csv has images beyond the 10 of metrics/conf",
        ),
        (
            MISCLASSIFIED,
            "2,0",
            "-1,0",
            "misclassified.csv has images beyond the 10 of metrics/conf",
        ),
        (MISCLASSIFIED, "2,0,1", "2,0,0", "misclassified.csv has 2,0,0,0.5"),
        (MISCLASSIFIED, "0.6", "nan", "misclassified.csv has 3,1,0,nan"),
        (MISCLASSIFIED, "0.6", "-0.6", "misclassified.csv has 3,1,0,-0.6"),
        (MISCLASSIFIED, "3,1,0", "3,0,1", "misclassified.csv has other pairs of classes than metr"),
        (
            MISCLASSIFIED,
            "0.6",
            "0.999999",
            "loss is 0.5, but metrics/misclassified.csv gives at le",
        ),
        (
            METRICS,
            "0.5",
            "0.28",
            "loss is 0.28, but metrics/misclassified.csv gives at least 0.281",
        ),
        (METRICS, "}", ', "accuracy": 0.9999}', "accuracy is 0.9999, but metrics/confusion_matrix"),
        (
            METRICS,
            "}",
            ', "accuracy_low": 0.4}',
            "accuracy_low is 0.4, but metrics/confusion_matri",
        ),
        (
            METRICS,
            "}",
            ', "accuracy_high": 0.9}',
            "accuracy_high is 0.9, but metrics/confusion_mat",
        ),
        (
            METRICS,
            "}",
            ', "macro_precision": 0.8}',
            "macro_precision is 0.8, but metrics/confusion",
        ),
        (
            METRICS,
            "}",
            ', "macro_recall": 0.8}',
            "macro_recall is 0.8, but metrics/confusion_matri",
        ),
        (
            METRICS,
            "}",
            ', "macro_f1": 0.8}',
            "macro_f1 is 0.8, but metrics/confusion_matrix.csv give",
        ),
        (
            METRICS,
            "}",
            ', "worst_class_recall": 0.8}',
            "worst_class_recall is 0.8, but metrics/conf",
        ),
        (
            METRICS,
            "}",
            ', "expected_calibration_error": -0.1}',
            "expected_calibration_error is -0.1, outside [0, 1]",
        ),
        (MISCLASSIFIED, "0.6", "sure", "could not convert string to float: 'sure'"),
        (MISCLASSIFIED, "0.6", "0.6,0", "too many values to unpack"),
        (MISCLASSIFIED, "0,1,0.5", '0,"1,0.5', "unexpected end of data"),
        (
            MISCLASSIFIED,
            "7,1,0,0.7\n",
            "",
            "metrics.json has 3 errors, metrics/misclassified.csv 2,",
        ),
        (MATRIX, "count", "images", "metrics/confusion_matrix.csv has the columns ['actual',"),
        (MATRIX, "1,1,3", "1,1,few", "invalid literal for int() with base 10: 'few'"),
        (MATRIX, "1,1,3", "1,1,0", "confusion_matrix.csv doesn't have one positive count per pair"),
        (MATRIX, "1,1,3", "0,0,3", "confusion_matrix.csv doesn't have one positive count per pair"),
        (MATRIX, "1,0,2", "1,0,3", "misclassified.csv 3, metrics/confusion_matrix.csv 4"),
    ],
)
def test_results_that_do_not_agree_are_refused(
    name: str, old: str, new: str, complaint: str
) -> None:
    assert old in RESULTS[name]
    changed = RESULTS | {name: RESULTS[name].replace(old, new, 1)}
    with pytest.raises(
        (ValueError, LookupError, OverflowError, csv.Error), match=re.escape(complaint)
    ):
        gate.parse_results("", "", *map(str.encode, changed.values()))


@pytest.mark.parametrize("classes", [4, 6], ids=["all tested", "two neither tested nor predicted"])
def test_the_metrics_of_a_network_are_those_that_its_matrix_gives(classes: int) -> None:
    """Of four classes, one has no test images, and one is never predicted."""
    from mnist_cnn.evaluation import scores

    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    probabilities = np.zeros((200, classes), np.float32)
    answers = random.choice([0, 1, 3], 200)
    probabilities[np.arange(200), answers] = 0.6
    probabilities[np.arange(200), (answers + 1) % 4] = 0.4
    metrics = scores.compute_metrics(labels, probabilities, 15)
    tables = (
        scores.misclassified_images(labels, probabilities),
        scores.confusion_matrix(labels, probabilities),
    )
    csvs = [table.to_csv(index=False, float_format="%.6f").encode() for table in tables]
    assert gate.parse_results("", "", json.dumps(metrics).encode(), *csvs).metrics == metrics


def test_names_cannot_change_the_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    evil = "<img src=x>|`a`\x1b[31m\n# b"
    row = gate.Row(evil, "fail", "0.5", ">= 0.9", "", "")
    report = gate.Report([row], "", {f"1 lost against {evil}": f"3 ({evil} as {evil})"})
    monkeypatch.setattr(gate, "check", lambda _: report)
    monkeypatch.setattr(sys, "argv", ["gate", "--markdown", str(tmp_path / "report.md")])
    with pytest.raises(SystemExit):
        gate.main()
    printed = capsys.readouterr().out
    assert r"|`a`\x1b[31m\n# b" in printed
    assert len(printed.splitlines()) == 5
    written = (tmp_path / "report.md").read_text()
    assert not re.search(r"[`\x1b]|<img|^#(?!# Metric check)", written, re.MULTILINE)
    assert [line.count("|") for line in written.splitlines() if line.startswith("|")] == [7] * 3
    monkeypatch.setattr(gate, "check", lambda _: (_ for _ in ()).throw(InputError(evil)))
    with pytest.raises(SystemExit):
        gate.main()
    assert capsys.readouterr().err.count("\x1b") == 0
    assert "<" not in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("name", ["dvc.yaml", "dvc.lock", "params.yaml", MISCLASSIFIED])
def test_a_pipe_is_not_read(workspace: Path, name: str) -> None:
    (workspace / name).unlink()
    os.mkfifo(workspace / name)
    with pytest.raises(InputError, match="is not a regular file"):
        gate.check(None)


def test_a_huge_result_is_not_read(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MAX_RESULTS", (workspace / METRICS).stat().st_size)
    with pytest.raises(InputError, match=r"misclassified\.csv is not a file of at most \d+ bytes"):
        gate.read_results("main")


def test_results_without_images_are_refused() -> None:
    empty = b'{"errors": 0}', b"index,actual,predicted,confidence\n", b"actual,predicted,count\n"
    with pytest.raises(ValueError, match=r"confusion_matrix\.csv doesn't have one pos"):
        gate.parse_results("", "", *empty)


def test_results_that_do_not_match_are_inconclusive(workspace: Path, check: Command) -> None:
    edit("params.yaml", "epochs: 2", "epochs: 3")(workspace)
    assert_inconclusive(check, ["--baseline", "main"], "dvc.lock does not match the workspace ")


@pytest.mark.usefixtures("workspace")
def test_an_unknown_baseline_is_inconclusive(check: Command) -> None:
    complaint = "nosuch: unknown Git revision 'nosuch': expected a commit, branch, tag or exp"
    assert_inconclusive(check, ["--baseline", "nosuch"], complaint)


def test_a_check_of_nothing_is_inconclusive(workspace: Path, check: Command) -> None:
    complaint = (
        r"there is nothing to check for digits\.npz: expected limits in params\.yaml, a --baseline "
        r"or a release; `mnist-cnn-gate --suggest` prints some"
    )
    none: dict[str, dict[str, float]] = {"floors": {}, "ceilings": {}}
    for name, limits in {"digits": LIMITS, "digits.npz": none}.items():
        set_params(workspace, gate={"limits": {name: limits}})
        assert_inconclusive(check, [], complaint)


def test_without_limits_for_the_dataset_only_regressions_are_checked(
    workspace: Path, check: Command
) -> None:
    set_params(workspace, gate={"limits": {"mnist": LIMITS}})
    code, printed, _ = check("--baseline", "main", "--markdown", "report.md")
    assert code == 0
    assert re.findall(r"^(.+?)  ", printed, re.MULTILINE)[2:] == ["no regression against main"]
    remark = "params.yaml has no limits for digits.npz: `mnist-cnn-gate --suggest` prints some"
    report = (workspace / "report.md").read_text()
    assert printed.count(f"\n{remark}") == report.count(f"\n\n{remark}") == 1


def test_the_limits_of_the_dataset_are_checked(workspace: Path, check: Command) -> None:
    own = {"floors": {"accuracy": 0.999}, "ceilings": {"loss": 9.0}}
    set_params(workspace, gate={"limits": {"mnist": LIMITS, "digits.npz": own}})
    code, printed, _ = check()
    assert code == 1
    assert re.findall(r"^(\w+) +(pass|fail) .* ([<>]= \S+)", printed, re.MULTILINE) == [
        ("accuracy", "fail", ">= 0.999"),
        ("loss", "pass", "<= 9"),
    ]
    assert "--suggest" not in printed


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("source", ["digits.npz", "1e5", "2024", "null", "a b - c"])
def test_suggested_limits_can_be_pasted_and_pass(
    monkeypatch: pytest.MonkeyPatch, check: Command, source: str
) -> None:
    """Including those of a dataset whose name YAML would take for something else."""
    if source != "digits.npz":
        monkeypatch.setattr(gate, "check_lock", lambda: None)
    text = re.sub("source: .*", f"source: '{source}'", Path("params.yaml").read_text())
    head, tail = re.split(r"(?<=  limits:\n)(?:    .*\n)+", text)
    Path("params.yaml").write_text(head.replace("limits:", "limits: {}") + tail)
    lines = suggested(check)
    Path("params.yaml").write_text(head + lines + tail)
    limits = load_params().gate.limits
    assert list(limits) == [source]
    assert list(limits[source].floors) == ["accuracy", "worst_class_recall"]
    code, printed, errors = check()
    assert code == 0, errors
    assert printed.count(" pass ") == 5


def suggested(check: Command) -> str:
    code, printed, errors = check("--suggest")
    assert (code, errors) == (0, "")
    return printed


def test_limits_are_not_suggested_for_other_results(workspace: Path, check: Command) -> None:
    edit("params.yaml", "epochs: 2", "epochs: 3")(workspace)
    code, printed, errors = check("--suggest")
    assert (code, printed) == (2, "")
    assert errors.startswith("error: dvc.lock does not match the workspace (stages train)")
    assert errors.count("\n") == 1


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("option", ["--baseline=main", "--markdown=report.md"])
def test_a_suggestion_takes_no_other_option(check: Command, option: str) -> None:
    code, printed, errors = check("--suggest", option)
    assert (code, printed) == (2, "")
    assert "error: --suggest checks nothing: expected no --baseline and no --markdown\n" in errors


def test_a_limit_that_is_not_a_number_is_inconclusive(workspace: Path, check: Command) -> None:
    set_params(
        workspace, gate={"limits": {"a": {"floors": {"accuracy": float("nan")}, "ceilings": {}}}}
    )
    complaint = r"params\.yaml: gate\.limits\.a\.floors\.accuracy is nan: it should be a finite num"
    assert_inconclusive(check, [], complaint)


def test_without_git_nothing_can_be_checked(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(clone, tmp_path / "copy", ignore=shutil.ignore_patterns(".git"))
    monkeypatch.chdir(copy)
    message = (
        r"^dvc\.lock cannot .+ is not a git repository\): expected a complete, writable Git clone"
    )
    with pytest.raises(InputError, match=message):
        gate.check_lock()


def test_a_shallow_clone_without_the_baseline_says_how_to_get_it(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"file://{pipeline}"
    succeed(tmp_path, "git", "clone", "--quiet", "--depth", "1", source, "shallow")
    monkeypatch.chdir(tmp_path / "shallow")
    with pytest.raises(InputError, match=r"^main~1: .+ `git fetch --unshallow`$"):
        gate.read_results("main~1")


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("baseline", ["", "--"])
def test_an_empty_baseline_is_refused(check: Command, baseline: str) -> None:
    code, _, errors = check(f"--baseline={baseline}")
    assert code == 2
    # Up to Python 3.12, argparse makes a list of "--".
    assert re.search("--baseline is empty|unknown Git revision '--'", errors)


@pytest.mark.usefixtures("workspace")
def test_a_report_that_cannot_be_written_is_refused(check: Command) -> None:
    code, _, errors = check("--markdown", "params.yaml/report.md")
    assert code == 2
    assert errors.startswith("error: params.yaml/report.md cannot be written (File exists")
