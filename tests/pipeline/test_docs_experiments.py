"""The commands on the page about experiments run. This file gets a test process for itself."""

import json
import shutil
from pathlib import Path

from tests.helpers import succeed
from tests.pipeline.test_docs import EXPERIMENTS, PAGES, run_commands


def test_every_command_runs(small_pipeline: Path, tmp_path: Path) -> None:
    clone = shutil.copytree(small_pipeline, tmp_path / "pipe line")
    run_commands(PAGES[EXPERIMENTS], clone, tmp_path / "log.txt")
    changes = json.loads(succeed(clone, "dvc", "params", "diff", "main", "longer", "--json"))
    assert set(changes["params.yaml"]) == {"train.epochs", "train.learning_rate"}
    names = set(succeed(clone, "dvc", "exp", "list", "--names-only").split())
    assert "longer" in names
    # The two experiments that ran in parallel had different parameters.
    rates = set()
    for name in names - {"longer"}:
        changes = json.loads(succeed(clone, "dvc", "params", "diff", "longer", name, "--json"))
        rates.add(changes["params.yaml"]["train.learning_rate"]["new"])
    assert rates == {0.006, 0.012}
