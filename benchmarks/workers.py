"""`python -m benchmarks.workers [ROUNDS]`: measure the speed-up from a second worker.

Trains the default recipe with one process and with two, each on one core, connected over the
loopback interface. Each measurement is the second epoch of new processes; the cases take turns.
Takes about two minutes a round on 2 CPU cores. Needs Linux.
"""

import json
import os
import subprocess
import sys
import time

import pandas as pd
from tqdm import tqdm

from benchmarks.contestants import compose, mnist_arrays
from mnist_cnn.data.arrays import DIGITS, Arrays
from mnist_cnn.files import sha256
from mnist_cnn.params import PARAMS_PATH
from mnist_cnn.training.cluster import read_cluster

FIRST_PORT = 23400
CASES = (1, 2)


def main(rounds: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < max(CASES):
        sys.exit(f"expected {max(CASES)} CPU cores, found {len(cores)}")
    rows = [measure(workers, cores) for workers in tqdm(CASES * rounds, unit="case", disable=None)]
    table = pd.DataFrame(rows).groupby("workers").median()
    table["speed-up"] = table["µs per image"].iloc[0] / table["µs per image"]
    table["efficiency"] = table["speed-up"] / table.index
    print(table.to_markdown(floatfmt=("d", ".1f", ".2f", ".2f", ".2f")))


def measure(workers: int, cores: list[int]) -> dict[str, float]:
    addresses = [f"127.0.0.1:{FIRST_PORT + i}" for i in range(workers)]
    command = ["taskset", "--cpu-list", "", sys.executable, "-m", "benchmarks.workers", "--worker"]
    processes = []
    for i in range(workers):
        command[2] = str(cores[i])
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
        environment = os.environ | {"TF_CONFIG": json.dumps(task)}
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"{workers} workers: exit codes {[process.returncode for process in processes]}")
    measured: dict[str, float] = json.loads(outputs[0].splitlines()[-1])
    return {"workers": workers} | measured


def work() -> None:
    from mnist_cnn.model.backend import set_seed
    from mnist_cnn.model.network import build_network
    from mnist_cnn.training.distribution import create_strategy
    from mnist_cnn.training.fit import fit

    train, _ = mnist_arrays()
    few = Arrays(train.images[:100], train.labels[:100])
    params = compose("default")
    strategy = create_strategy(read_cluster(), key=sha256(PARAMS_PATH))
    set_seed(params.train.seed)
    network = build_network(params.model, train.images.shape[1:], len(DIGITS))
    settings = params.train.model_copy(update={"epochs": 2, "steps_per_epoch": None})
    epochs = fit(network, train, few, settings, strategy=strategy)
    next(epochs)
    start = time.perf_counter()
    next(epochs)
    seconds = time.perf_counter() - start
    steps = len(train.labels) // settings.batch_size
    print(
        json.dumps(
            {
                "µs per image": 1e6 * seconds / (steps * settings.batch_size),
                "ms per step": 1e3 * seconds / steps,
            }
        )
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work()
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
