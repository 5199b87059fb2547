"""`python -m mnist_cnn.summary`: the metrics and artifacts of the last run, as tables."""

import json
from pathlib import Path

import pandas as pd
import yaml

from mnist_cnn.errors import InputError, reported


@reported
def main() -> None:
    try:
        metrics = json.loads(Path("metrics/metrics.json").read_bytes())
        values = pd.DataFrame(metrics.items(), columns=["metric", "value"], dtype=object)
        lock = yaml.safe_load(Path("dvc.lock").read_bytes())
        artifacts = pd.DataFrame(
            {"artifact": out["path"], "made by": name, "bytes": out["size"], "md5": out["md5"]}
            for name, stage in lock["stages"].items()
            for out in stage["outs"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(
            f"metrics/metrics.json and dvc.lock cannot be read ({error}): "
            "expected the results of a complete run; make them with `dvc repro`"
        ) from error
    print(values.to_string(index=False))
    print()
    print(artifacts.to_string(index=False))


if __name__ == "__main__":
    main()
