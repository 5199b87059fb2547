"""`python -m benchmarks.compare [RUNS]`: the pipeline against a plain Keras script, in turn.

Prints the wall time and test accuracy of both for each run, the ratio of the times, and the peak
memory of each stage. Needs Linux or macOS, and takes about two minutes a run on 2 CPU cores.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

STAGES = ("prepare", "train", "export", "evaluate")
MEGABYTE = 1e6 if sys.platform == "darwin" else 1e3  # in units of ru_maxrss


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rows = []
    for run in range(1, runs + 1):
        pipeline_seconds, _ = timed(["dvc", "repro", "--force"])
        metrics = json.loads(Path("metrics/metrics.json").read_text())
        plain_seconds, printed = timed([sys.executable, "-m", "benchmarks.plain_keras"])
        rows.append(
            {
                "run": run,
                "pipeline s": pipeline_seconds,
                "pipeline accuracy": metrics["accuracy"],
                "plain script s": plain_seconds,
                "plain script accuracy": json.loads(printed.splitlines()[-1])["accuracy"],
                "ratio of times": pipeline_seconds / plain_seconds,
            }
        )
        print(pd.DataFrame(rows[-1:]).round(4).to_string(index=False, header=run == 1), flush=True)
    print(f"\nmedian ratio: {statistics.median(row['ratio of times'] for row in rows):.2f}\n")
    for stage in STAGES:
        _, peak = run_stage(stage)
        print(f"peak memory of {stage}: {peak:.0f} MB", flush=True)


def timed(command: list[str]) -> tuple[float, str]:
    """Wall time of `command` in seconds, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - start, done.stdout


def run_stage(stage: str, folder: Path = Path()) -> tuple[float, float]:
    """Run a stage of the project in `folder`: its wall time in seconds and its largest resident
    memory in MB, as the operating system counted it."""
    command = [sys.executable, "-m", f"stages.{stage}"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_maxrss / MEGABYTE


if __name__ == "__main__":
    main()
