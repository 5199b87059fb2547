"""`python -m benchmarks.compare [RUNS]`: compare the pipeline with a plain Keras script.

The two take turns; the pipeline runs in a copy of the workspace. Prints the wall time and test
accuracy of both for each run, the ratio of the times, and the peak memory of each stage. Needs
Linux or macOS, and takes about two minutes a run on 2 CPU cores.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

STAGES = ("prepare", "train", "export", "evaluate")
PEAK_MEMORY_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of ru_maxrss
NOT_COPIED = shutil.ignore_patterns(
    *(".git", ".venv", ".*_cache", "__pycache__", "cache", "tmp", "*.partial"),
    *("prepared", "models", "metrics"),
)


def main(runs: int) -> None:
    with copied_project() as project:
        rows = []
        for run in range(1, runs + 1):
            rows.append({"run": run} | compare_once(project))
            table = pd.DataFrame(rows[-1:]).round(4)
            print(table.to_string(index=False, header=run == 1), flush=True)
        ratio = statistics.median(row["ratio of times"] for row in rows)
        print(f"\nmedian ratio: {ratio:.2f}\n")
        for stage in STAGES:
            _, peak = run_stage(stage, project)
            print(f"peak memory of {stage}: {peak:.0f} MB", flush=True)


@contextmanager
def copied_project() -> Iterator[Path]:
    """Yield a temporary copy of the workspace, without results, as a separate DVC repository."""
    with tempfile.TemporaryDirectory(dir=".", suffix=".partial") as scratch:
        project = Path(scratch, "project")
        shutil.copytree(".", project, ignore=NOT_COPIED)
        subprocess.run(["git", "init", "--quiet"], check=True, cwd=project)
        yield project


def compare_once(project: Path) -> dict[str, float]:
    pipeline_seconds, _ = timed(["dvc", "repro", "--force"], project)
    metrics = json.loads((project / "metrics/metrics.json").read_text())
    plain_seconds, printed = timed([sys.executable, "-m", "benchmarks.plain_keras"], project)
    return {
        "pipeline s": pipeline_seconds,
        "pipeline accuracy": metrics["accuracy"],
        "plain script s": plain_seconds,
        "plain script accuracy": json.loads(printed.splitlines()[-1])["accuracy"],
        "ratio of times": pipeline_seconds / plain_seconds,
    }


def timed(command: list[str], folder: Path) -> tuple[float, str]:
    """Run `command`. Return its wall time in seconds, and its output."""
    start = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder)
    return time.perf_counter() - start, done.stdout


def run_stage(stage: str, folder: Path) -> tuple[float, float]:
    """Run a stage of the project in `folder`. Return its wall time in seconds and its peak resident
    memory in MB (10^6 bytes), as reported by the operating system."""
    command = [sys.executable, "-m", f"stages.{stage}"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_maxrss * PEAK_MEMORY_UNIT / 1e6


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
