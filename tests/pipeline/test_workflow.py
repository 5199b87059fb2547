"""The hosted workflow: run its commands locally."""

import os
import re
from pathlib import Path

import yaml

from tests.helpers import ROOT, commit_all, run, succeed
from tests.test_gate import misread

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
CHECKOUT, *STEPS = WORKFLOW["jobs"]["metrics"]["steps"]
COMMANDS = {step["name"]: step["run"] for step in STEPS if "run" in step}
(COMMENT,) = (step for step in WORKFLOW["jobs"]["comment"]["steps"] if "run" in step)
SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")


def test_a_pull_request_gets_its_report(pipeline: Path, tmp_path: Path) -> None:
    """The target branch has a better model than the latest release; the pull request has one as
    good as the release."""
    base = tmp_path / "base"
    succeed(tmp_path, "git", "clone", "--quiet", str(pipeline), str(base))
    succeed(base, "git", "tag", "v1.0")
    misread(base, -30)
    commit_all(base)
    succeed(base, "git", "revert", "--no-edit", "HEAD")

    depth = CHECKOUT["with"]["fetch-depth"]  # 0: all commits and tags
    options = ["--depth", str(depth), "--no-tags"] if depth else []
    runner = tmp_path / "runner"
    succeed(tmp_path, "git", "clone", "--quiet", *options, f"file://{base}", str(runner))
    (runner / ".dvc/cache").symlink_to(pipeline / ".dvc/cache")
    (runner / ".venv").symlink_to(ROOT / ".venv")
    misread(runner, -5)  # made-up results, which the workflow must recompute
    summary = tmp_path / "summary.md"
    environment = {"PATH": os.defpath, "BASELINE": "HEAD^1", "GITHUB_STEP_SUMMARY": str(summary)}

    def run_step(name: str) -> int:
        return run(runner, *SHELL, COMMANDS[name], **environment).returncode

    codes = {name: run_step(name) for name, command in COMMANDS.items() if command[:4] != "make"}
    assert codes == {
        "Check out the cached outputs": 0,
        "Evaluate": 0,
        "Check the metrics": 1,
        "Summarize": 0,
        "Draw the plots": 0,
    }
    assert not succeed(runner, "git", "status", "--porcelain", "--untracked-files=no")

    printed = summary.read_text()
    assert printed.startswith("## Metric check: fail (no regression against HEAD^1)\n")
    assert re.search(r"no regression against HEAD\^1 .+ fail .+ 30 lost, 0 won, ", printed)
    assert re.search(r"no regression against v1\.0 .+ pass .+ 0 lost, 0 won, ", printed)
    assert (runner / "report/report.md").read_text() == printed
    page = (runner / "report/plots/index.html").read_text(encoding="utf-8")
    assert '"metrics_training_csv"' in page
    assert '"HEAD^1"' in page

    environment["BASELINE"] = ""  # as after a push
    assert run_step("Check the metrics") == 0
    assert "against v1.0" in (runner / "report/report.md").read_text()


def test_the_report_becomes_a_comment(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("## Metric check: pass\n")
    gh = tmp_path / "gh"
    gh.write_text('#!/bin/sh\necho "$@"\ncat report.md\n')
    gh.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.defpath}", "NUMBER": "7", "PLOTS": "https://plots"}
    assert environment.keys() - {"PATH"} < COMMENT["env"].keys()
    assert succeed(tmp_path, *SHELL, COMMENT["run"], **environment) == (
        "pr comment 7 --edit-last --create-if-none --body-file report.md\n"
        "## Metric check: pass\n"
        "\n[Plots](https://plots): unzip them and open plots/index.html\n"
    )


def test_only_the_comment_may_write() -> None:
    assert WORKFLOW["permissions"] == {}
    jobs = WORKFLOW["jobs"]
    assert {name: job["permissions"] for name, job in jobs.items()} == {
        "test": {"contents": "read"},
        "systems": {"contents": "read"},
        "metrics": {"contents": "read"},
        "comment": {"pull-requests": "write"},
    }
    # It runs no code from the pull request.
    assert not any("checkout" in step.get("uses", "") for step in jobs["comment"]["steps"])
