"""What the README says holds: its table of parameters, and each of its commands."""

import json
import re
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydantic import BaseModel

from mnist_cnn.params import ConvolutionParams, Params
from tests.conftest import ROOT, run, succeed

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split(" #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
# Those make an environment or check everything: whoever runs this test has just run them.
INSTALLATION = (
    "make repro",
    "make test",
    "python3 -m venv",
    ". .venv",
    "pip install",
    "sudo apt-get",
)
# It serves until it is stopped: test_demo.py starts what it starts.
SERVICE = "make demo"
# The exit codes that the README promises where they are not just 0: the small network that the
# tests train need not be sure of a digit.
EXIT_CODES = {
    "python -m mnist_cnn.gate --baseline main --markdown report.md": {1},
    "python -m mnist_cnn.predict --multiple --explain explained data/example.jpg": {0, 3},
}


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


def test_the_table_of_parameters_is_that_of_the_schema() -> None:
    _, table = README.split("| parameter | meaning | allowed |\n|---|---|---|\n")
    assert table.split("\n\n")[0].splitlines() == list(parameters(Params, ""))


def wait_for_the_queue(folder: Path) -> None:
    deadline = time.monotonic() + 300
    while re.search("Queued|Running", status := succeed(folder, "dvc", "queue", "status")):
        assert time.monotonic() < deadline, status
        time.sleep(1)
    assert status.count("Success") == 2, status


def test_every_command_runs_in_the_order_of_the_text(pipeline: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"  # not a pipe: the workers of the queue would hold it open
    installed = Path("/usr/share/datasets/fashion-mnist").exists()
    for command in COMMANDS:
        skipped = (*INSTALLATION, SERVICE)
        if command.startswith(skipped) or ("fashion" in command and not installed):
            continue
        done = run(pipeline, "sh", "-c", f"({command}) > '{log}' 2>&1")
        assert done.returncode in EXIT_CODES.get(command, {0}), (command, log.read_text())
        if command.startswith("dvc queue start"):
            wait_for_the_queue(pipeline)
            succeed(pipeline, "dvc", "queue", "stop")

    changes = json.loads(succeed(pipeline, "dvc", "params", "diff", "longer", "hasty", "--json"))
    assert set(changes["params.yaml"]) == {"train.epochs", "train.learning_rate"}
    names = succeed(pipeline, "dvc", "exp", "list", "--names-only").split()
    named = {"fast", "longer", "hasty", "baseline", *(["fashion"] if installed else [])}
    assert named < set(names)
    # One of the two jobs that ran at once had the parameters of main: it has its results too.
    queued = set(names) - named
    diffs = [succeed(pipeline, "dvc", "metrics", "diff", "main", name, "--json") for name in queued]
    assert sorted(json.loads(diff) == {} for diff in diffs) == [False, True]


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([a-z_.]+)", README))))
def test_a_module_that_is_named_exists(module: str) -> None:
    assert find_spec(module)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)]+)\)", README))))
def test_a_file_that_is_linked_exists(path: str) -> None:
    assert (ROOT / path).is_file()
