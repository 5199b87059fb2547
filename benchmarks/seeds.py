"""`python -m benchmarks.seeds`: measure the test metrics over 5 seeds, and how often the metric
check mistakes one seed for a regression against another.

Each seed is a DVC experiment `seed-N`, run in a copy of the workspace. `dvc exp show` lists them
afterwards. Takes about a minute a seed on 2 CPU cores.
"""

import subprocess
from itertools import permutations

import pandas as pd
from tqdm import tqdm

from mnist_cnn.gate import check_regression, compare, read_results
from mnist_cnn.params import load_params

SEEDS = (1, 2, 3, 4, 5)


def main() -> None:
    results = []
    for seed in tqdm(SEEDS, unit="seed", disable=None):
        name = f"seed-{seed}"
        command = ["dvc", "exp", "run", "--quiet", "--temp", "--force", "--name", name]
        subprocess.run([*command, "--set-param", f"train.seed={seed}"], check=True)
        results.append(read_results(name))
    table = pd.DataFrame([each.metrics for each in results], index=pd.Index(SEEDS, name="seed"))
    columns = ["errors", "accuracy", "loss", "worst_class_recall", "expected_calibration_error"]
    print(table[columns].to_string(float_format="%.4f"))
    print(f"\nmean and standard deviation over {len(SEEDS)} seeds:")
    print(table[columns].agg(["mean", "std"]).to_string(float_format="%.4f"))

    params = load_params().gate
    verdicts = []
    for candidate, baseline in permutations(results, 2):
        lost, won = compare(candidate, baseline)
        row = check_regression(params, baseline.source, len(lost), len(won), candidate.images)
        verdicts.append(row.verdict)
    print(f"\nthe metric check: {verdicts.count('fail')} of {len(verdicts)} pairs of seeds fail")


if __name__ == "__main__":
    main()
