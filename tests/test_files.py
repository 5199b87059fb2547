import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from mnist_cnn.errors import InputError
from mnist_cnn.files import replacing, restoring, scratch_folder, write_csv
from tests.conftest import ROOT


def test_a_folder_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").touch()
    leftover = tmp_path / "folder.partial"  # of a process that was killed
    leftover.mkdir()
    (leftover / "half").touch()
    for fails in (True, False):
        with suppress(KeyError), replacing(folder) as (partial,):
            partial.unlink()
            partial.mkdir()
            (partial / "new").touch()
            if fails:
                raise KeyError
        assert [path.name for path in folder.iterdir()] == ["old" if fails else "new"]
        assert list(tmp_path.iterdir()) == [folder]


def test_a_scratch_folder_is_new_and_goes(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "scratch"
    folder.mkdir(parents=True)
    (folder / "left by a killed process").touch()
    with suppress(KeyError), scratch_folder(folder) as scratch:
        assert list(scratch.iterdir()) == []
        (scratch / "file").touch()
        raise KeyError
    assert not folder.exists()
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"file/scratch cannot be written \(Not a directory\)"),
        scratch_folder(tmp_path / "file" / "scratch"),
    ):
        pass


def test_all_files_are_replaced_together(tmp_path: Path) -> None:
    paths = [tmp_path / "new" / "a.txt", tmp_path / "b.txt"]
    with replacing(*paths) as partials:
        for partial in partials:
            partial.write_text("new")
        assert not any(path.exists() for path in paths)
    assert [path.read_text() for path in paths] == ["new", "new"]
    assert sorted(path.name for path in tmp_path.rglob("*.txt")) == ["a.txt", "b.txt"]


def test_a_failure_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.txt") as (partial,):
        partial.write_text("new")
        raise ZeroDivisionError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


@pytest.mark.parametrize("old", ["old", None])
def test_a_failure_restores_a_file_that_shows_progress(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "a.csv"
    if old:
        path.write_text(old)
    with pytest.raises(KeyboardInterrupt), restoring(path):
        path.write_text("half")
        raise KeyboardInterrupt
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == (
        {"a.csv": old} if old else {}
    )


def test_a_success_keeps_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("old")
    with restoring(tmp_path / "a.csv"):
        (tmp_path / "a.csv").write_text("new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.csv", "new")]


def test_a_folder_that_cannot_be_made_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(
            InputError, match=r"file/a.txt cannot be written \(.+\): expected a writable"
        ),
        replacing(tmp_path / "file" / "a.txt"),
    ):
        pytest.fail("the block ran")


def test_a_file_that_cannot_be_made_is_named_at_once(tmp_path: Path) -> None:
    too_long = tmp_path / f"{'a' * 250}.txt"
    with pytest.raises(InputError, match="cannot be written"), replacing(too_long):
        pytest.fail("the block ran")


def test_a_disk_without_space_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_text("old")
    # A limit on the size of files stands in for the full disk: both fail in the same write.
    program = f"""
import resource
from pathlib import Path

import numpy as np

from mnist_cnn.arrays import write_arrays
from mnist_cnn.errors import reported
from mnist_cnn.files import replacing

@reported
def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    with replacing(Path({str(path)!r})) as (partial,):
        write_arrays(partial, [np.zeros((9, 28, 28, 1), np.float32)], np.zeros(9, np.int64))

main()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {path} cannot be written (")
    assert done.stderr.count("\n") == 1
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.npz", "old")]


def test_csv_has_the_same_bytes_on_any_system(tmp_path: Path) -> None:
    write_csv(pd.DataFrame({"n": [1, 2], "x": [1 / 3, 2]}), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == b"n,x\n1,0.333333\n2,2.000000\n"
