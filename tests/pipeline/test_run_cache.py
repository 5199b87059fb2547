"""DVC restores earlier results without training again."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers import ENVIRONMENT, commit_all, run, set_params, stages_run, succeed


@pytest.fixture(scope="module")
def tried(pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small pipeline with a remote, after training three epochs and restoring params.yaml."""
    storage = str(tmp_path_factory.mktemp("storage"))
    succeed(pipeline, "dvc", "remote", "add", "--default", "storage", storage)
    commit_all(pipeline)
    set_params(pipeline, train={"epochs": 3})
    assert stages_run(pipeline) == ["train", "export", "evaluate"]
    restore_params(pipeline)
    assert_restored(pipeline)
    return pipeline


def restore_params(clone: Path) -> None:
    succeed(clone, "git", "restore", "params.yaml")


def assert_restored(clone: Path) -> None:
    """Assert that `dvc repro` runs no stage and restores the committed results."""
    assert stages_run(clone) == []
    assert succeed(clone, "git", "status", "--short") == ""
    assert succeed(clone, "dvc", "status").strip() == "Data and pipelines are up to date."


def test_a_failed_stage_leaves_no_outputs_and_they_come_back(tried: Path) -> None:
    set_params(tried, train={"batch_size": 2000})
    done = run(tried, "dvc", "repro")
    assert done.returncode != 0
    assert "error: params.yaml: train.batch_size is 2000: expected at most 1000" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tried / "models/model.keras").exists()
    assert not (tried / "metrics/training.csv").exists()
    restore_params(tried)
    assert_restored(tried)


def kill_while_training(clone: Path, name: signal.Signals) -> str:
    """Kill `dvc repro` and its stage after the first epoch; return its stderr."""
    process = subprocess.Popen(
        ["dvc", "repro"],
        cwd=clone,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Processes in the background of a shell ignore Ctrl-C by default.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    files = [clone / "models/checkpoint.npz", clone / "metrics/training.csv"]
    while not all(file.exists() for file in files):
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    os.killpg(process.pid, name)
    _, errors = process.communicate()
    assert process.returncode != 0
    return errors


@pytest.mark.parametrize("name", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_training_resumes_or_gives_way_to_the_earlier_results(
    tried: Path, name: signal.Signals
) -> None:
    epochs = 12 if name == signal.SIGKILL else 13
    set_params(tried, train={"epochs": epochs})
    assert "Traceback" not in kill_while_training(tried, name)
    known = len((tried / "metrics/training.csv").read_text().splitlines()) - 1
    assert 1 <= known < epochs  # plots can follow the training
    if name == signal.SIGKILL:
        printed = succeed(tried, "dvc", "repro", "train")
        assert "resumed after epoch" in printed
        assert "epoch 1  loss" not in printed
        assert f"epoch {epochs}  loss" in printed
    restore_params(tried)
    assert_restored(tried)


def test_a_repeated_experiment_trains_nothing(tried: Path) -> None:
    command = ("dvc", "exp", "run", "--set-param", "train.epochs=3")
    assert stages_run(tried, *command) == []
    succeed(tried, "git", "restore", ".")
    assert_restored(tried)
    assert stages_run(tried, *command, "--temp") == []


def test_a_second_clone_that_pulls_trains_nothing(tried: Path, tmp_path: Path) -> None:
    succeed(tried, "dvc", "exp", "run", "--temp", "--name", "three", "-S", "train.epochs=3")
    succeed(tried, "git", "clone", "--quiet", "--bare", ".", str(tmp_path / "hub"))
    succeed(tried, "git", "remote", "add", "hub", str(tmp_path / "hub"))
    succeed(tried, "dvc", "push", "--run-cache")
    succeed(tried, "dvc", "exp", "push", "hub", "three")

    succeed(tmp_path, "git", "clone", "--quiet", "hub", "second clone")
    second = tmp_path / "second clone"
    succeed(second, "dvc", "pull", "--run-cache")
    assert_restored(second)
    succeed(second, "dvc", "exp", "pull", "origin", "three")
    succeed(second, "dvc", "exp", "apply", "three")
    assert "epochs: 3" in (second / "params.yaml").read_text()
    assert stages_run(second) == []
