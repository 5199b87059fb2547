"""The hosted workflow: its commands, run here as they stand."""

from pathlib import Path

import yaml

from tests.conftest import ROOT, commit_all, run, set_params, succeed

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step["run"] for step in WORKFLOW["jobs"]["check"]["steps"] if "run" in step}


def test_the_steps_are_the_commands_of_a_user() -> None:
    assert list(STEPS) == [
        "Test",
        "Take from the cache what is there",
        "Reproduce",
        "Check the metrics",
        "Draw the plots",
    ]
    assert (STEPS["Test"], STEPS["Reproduce"]) == ("make test", "make repro")


def test_a_pull_request_gets_its_report(pipeline: Path, tmp_path: Path) -> None:
    """A pull request that changes the number of calibration bins, in a fresh clone with the cache
    of the run before."""
    base = succeed(pipeline, "git", "rev-parse", "HEAD").strip()
    set_params(pipeline, evaluate={"calibration_bins": 5})
    succeed(pipeline, "dvc", "repro", "--quiet")
    commit_all(pipeline)
    folder = tmp_path / "runner"
    succeed(tmp_path, "git", "clone", "--quiet", str(pipeline), str(folder))
    (folder / ".dvc/cache").symlink_to(pipeline / ".dvc/cache")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    summary = tmp_path / "summary.md"
    environment = {"BASELINE": base, "GITHUB_STEP_SUMMARY": str(summary)}

    succeed(folder, "bash", "-ec", STEPS["Take from the cache what is there"])
    assert "Running stage" not in succeed(folder, "dvc", "repro")
    for name in ("Check the metrics", "Draw the plots"):
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
        done = run(folder, *shell, STEPS[name], **environment)
        assert done.returncode == 0, done.stderr

    report = (folder / "report/report.md").read_text()
    assert report.startswith("## Metric check: pass\n")
    assert "no regression" in report
    pictures = ["accuracy", "confusions", "loss", "recall", "reliability", "worst_mistakes"]
    for picture in pictures:
        assert f"![]({picture}.png)" in report
        assert (folder / f"report/{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert summary.read_text() == report
