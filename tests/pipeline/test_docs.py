"""The README and the pages in docs/: every command runs, and every link works."""

import re
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from docs.parameters import page
from tests.helpers import ROOT, run, succeed

PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("data/raw/*.md")]
}
# These install packages, run all checks, or serve until they are stopped.
SKIPPED = (
    "make",
    "python3 -m venv",
    ". .venv",
    "pip install",
    "sudo apt-get",
)
# Exit codes other than 0: on the small dataset, the worse model may not be significantly worse, and
# the network may not be sure of a digit.
EXIT_CODES = {"mnist-cnn-gate": {0, 1}, "mnist-cnn-predict": {0, 3}}
EXPERIMENTS = "docs/experiments.md"


def commands(text: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = (line.split(" #")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if not line.startswith(SKIPPED)]


def run_commands(text: str, clone: Path, log: Path) -> None:
    """Run the commands in a page's text, in order, in a clone where the pipeline has run."""
    for command in commands(text):
        # Log to a file, because the workers of DVC's queue would keep a pipe open.
        done = run(clone, "sh", "-c", f"({command}) > '{log}' 2>&1")
        allowed = EXIT_CODES.get(command.split()[0], {0})
        assert done.returncode in allowed, (command, log.read_text())
        if command.startswith("dvc queue start"):
            wait_for_the_queue(clone)


def shorten(path: Path, old: str, new: str) -> None:
    """Change a file, so that a documented command takes less time."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def wait_for_the_queue(clone: Path) -> None:
    deadline = time.monotonic() + 300
    while re.search("Queued|Running", status := succeed(clone, "dvc", "queue", "status")):
        assert time.monotonic() < deadline, status
        time.sleep(1)
    assert status.count("Success") == 2, status
    succeed(clone, "dvc", "queue", "stop")


# test_docs_experiments.py runs that page, which takes as long as all others together.
@pytest.mark.parametrize(
    "name", [name for name, text in PAGES.items() if commands(text) and name != EXPERIMENTS]
)
def test_every_command_runs(small_pipeline: Path, tmp_path: Path, name: str) -> None:
    clone = shutil.copytree(small_pipeline, tmp_path / "pipe line")
    shorten(clone / "benchmarks/datasets.py", "PHOTOGRAPHS = 150", "PHOTOGRAPHS = 20")
    shorten(
        clone / "benchmarks/datasets.py",
        '"train": 120, "val": 30, "test": 30',
        '"train": 1, "val": 1, "test": 1',
    )
    shorten(clone / "recipes/small.yaml", "epochs: 12", "epochs: 1")
    run_commands(PAGES[name], clone, tmp_path / "log.txt")


def test_the_page_of_parameters_is_current() -> None:
    """`python docs/parameters.py > docs/parameters.md` updates it."""
    assert PAGES["docs/parameters.md"] == page()


@pytest.mark.parametrize(
    "module", sorted(set(re.findall(r"python -m ([a-z_.]+)", "".join(PAGES.values()))))
)
def test_a_module_that_is_named_exists(module: str) -> None:
    assert find_spec(module)


@pytest.mark.parametrize("name", PAGES)
def test_a_file_that_is_linked_exists(name: str) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", PAGES[name])
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).is_file()] == []


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 150


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("docs/")])
def test_every_page_is_linked(name: str) -> None:
    """From the README or another page."""
    linking = (text for other, text in PAGES.items() if other != name)
    assert any(f"({Path(name).name})" in text or f"({name})" in text for text in linking)
