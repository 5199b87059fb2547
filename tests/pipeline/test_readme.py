"""The README: its table of parameters, its links, and each of its commands."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydantic import BaseModel

from mnist_cnn.params import ConvolutionParams, Params
from tests.data.test_raw import write_idx
from tests.helpers import ROOT, run, succeed

README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE))
# These create an environment or check everything: whoever runs this test has just run them.
INSTALLATION = (
    "make repro",
    "make test",
    "python3 -m venv",
    ". .venv",
    "pip install",
    "sudo apt-get",
)
# It serves until it is stopped: test_demo.py starts the same.
SERVICE = "make demo"
# Exit codes other than 0: on the small dataset, the worse model may not be significantly worse, and
# the network may not be sure of a digit.
EXIT_CODES = {
    "python -m mnist_cnn.gate --baseline main --markdown report.md": {0, 1},
    "python -m mnist_cnn.reading.predict --multiple --explain explained data/example.jpg": {0, 3},
}
FASHION = "/usr/share/datasets/fashion-mnist"


def commands(section: str) -> list[str]:
    lines = [
        line.split(" #")[0].strip()
        for block in re.findall(r"```sh\n(.*?)```", SECTIONS[section], re.DOTALL)
        for line in block.splitlines()
    ]
    skipped = (*INSTALLATION, SERVICE)
    return [line for line in lines if not line.startswith(skipped)]


def parameters(section: type[BaseModel], prefix: str) -> Iterator[str]:
    """A row of the README's table for each parameter of the schema."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from parameters(field.annotation, f"{prefix}{name}.")
            continue
        allowed = next(words for words in field.metadata if isinstance(words, str))
        yield f"| `{prefix}{name}` | {field.description} | {allowed} |"
        if name == "convolutions":
            yield from parameters(ConvolutionParams, f"{prefix}{name}[].")


def test_the_table_of_parameters_matches_the_schema() -> None:
    _, table = README.split("| parameter | meaning | allowed |\n|---|---|---|\n")
    assert table.split("\n\n")[0].splitlines() == list(parameters(Params, ""))


def wait_for_the_queue(folder: Path) -> None:
    deadline = time.monotonic() + 300
    while re.search("Queued|Running", status := succeed(folder, "dvc", "queue", "status")):
        assert time.monotonic() < deadline, status
        time.sleep(1)
    assert status.count("Success") == 2, status
    succeed(folder, "dvc", "queue", "stop")


# Sections whose commands need those of the earlier ones.
EXPERIMENTS = ["Experiments", "Plots", "The check on the metrics"]
CHAINS = [EXPERIMENTS, *([name] for name in SECTIONS if name not in EXPERIMENTS)]


@pytest.mark.parametrize("sections", [c for c in CHAINS if any(map(commands, c))], ids="-".join)
def test_every_command_runs(small_pipeline: Path, tmp_path: Path, sections: list[str]) -> None:
    clone = shutil.copytree(small_pipeline, tmp_path / "pipe line")
    log = tmp_path / "log.txt"  # not a pipe: the workers of the queue would hold it open
    write_idx(tmp_path / "fashion")  # a few images in Fashion-MNIST's format
    for command in (command for section in sections for command in commands(section)):
        command = command.replace(FASHION, f"'{tmp_path}/fashion'")
        done = run(clone, "sh", "-c", f"({command}) > '{log}' 2>&1")
        assert done.returncode in EXIT_CODES.get(command, {0}), (command, log.read_text())
        if command.startswith("dvc queue start"):
            wait_for_the_queue(clone)
    if sections == EXPERIMENTS:
        check_experiments(clone)


def check_experiments(clone: Path) -> None:
    changes = json.loads(succeed(clone, "dvc", "params", "diff", "longer", "hasty", "--json"))
    assert set(changes["params.yaml"]) == {"train.epochs", "train.learning_rate"}
    names = set(succeed(clone, "dvc", "exp", "list", "--names-only").split())
    named = {"longer", "hasty"}
    assert named < names
    # Each of the two jobs that ran at once has its own parameters.
    rates = {
        json.loads(succeed(clone, "dvc", "params", "diff", "hasty", name, "--json"))["params.yaml"][
            "train.learning_rate"
        ]["new"]
        for name in names - named
    }
    assert rates == {0.006, 0.012}


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([a-z_.]+)", README))))
def test_a_module_that_is_named_exists(module: str) -> None:
    assert find_spec(module)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)]+)\)", README))))
def test_a_file_that_is_linked_exists(path: str) -> None:
    assert (ROOT / path).is_file()
