"""The hosted workflow: its commands, run here as they stand."""

import os
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, commit_all, misread, run, succeed
from tests.test_plots import PLOTS

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step["run"] for step in WORKFLOW["jobs"]["check"]["steps"] if "run" in step}
SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")


@pytest.mark.parametrize(("lost", "verdict"), [(0, "pass"), (60, "fail (no regression)")])
def test_a_pull_request_gets_its_report(
    pipeline: Path, tmp_path: Path, lost: int, verdict: str
) -> None:
    """A pull request to a branch whose model reads `lost` more images, in a fresh clone."""
    base = tmp_path / "base"
    succeed(tmp_path, "git", "clone", "--quiet", str(pipeline), str(base))
    (base / ".dvc/cache").symlink_to(pipeline / ".dvc/cache")
    succeed(base, "dvc", "checkout", "--quiet")
    misread(base, -lost)
    commit_all(base)
    succeed(base, "git", "revert", "--no-edit", "HEAD")

    runner = tmp_path / "runner"
    succeed(tmp_path, "git", "clone", "--quiet", "--depth", "2", f"file://{base}", str(runner))
    (runner / ".dvc/cache").symlink_to(pipeline / ".dvc/cache")
    (runner / ".venv").symlink_to(ROOT / ".venv")
    summary = tmp_path / "summary.md"
    environment = {
        "PATH": os.defpath,
        "BASELINE": "HEAD^1",
        "GITHUB_STEP_SUMMARY": str(summary),
    }
    codes = {
        name: run(runner, *SHELL, command, **environment).returncode
        for name, command in STEPS.items()
        if not command.startswith("make")
    }
    assert codes == {
        "Take from the cache what is there": 0,
        "Evaluate": 0,
        "Check the metrics": int(lost > 0),
        "Summarize": 0,
        "Draw the plots": 0,
    }
    assert not succeed(runner, "git", "status", "--porcelain", "--untracked-files=no")

    assert summary.read_text().startswith(f"## Metric check: {verdict}\n")
    report = (runner / "report/report.md").read_text()
    assert report.startswith(summary.read_text())
    for picture in (*PLOTS, "worst_mistakes"):
        assert f"![]({picture}.png)" in report
        assert (runner / f"report/{picture}.png").read_bytes().startswith(b"\x89PNG")
