import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from mnist_cnn.errors import InputError
from mnist_cnn.files import read_limited, scratch_folder, write_atomically, write_csv
from tests.helpers import ROOT


def test_a_file_is_complete_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with write_atomically(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    with pytest.raises(ZeroDivisionError), write_atomically(path) as partial:
        partial.write_text("newer")
        raise ZeroDivisionError
    assert [(file.name, file.read_text()) for file in path.parent.iterdir()] == [("a.txt", "new")]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").touch()
    leftover = tmp_path / "abc.partial"  # from a killed process
    leftover.mkdir()
    (leftover / "half").touch()
    for fails in (True, False):
        with suppress(KeyError), write_atomically(folder) as partial:
            partial.mkdir()
            (partial / "new").touch()
            if fails:
                raise KeyError
        assert [path.name for path in folder.iterdir()] == ["old" if fails else "new"]
        assert list(tmp_path.iterdir()) == [folder]


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "a.txt"
    with (
        pytest.raises(
            InputError, match=r"file/a.txt cannot be written \(.+\): expected a writable"
        ),
        write_atomically(path),
    ):
        pytest.fail("the block ran")
    too_long = tmp_path / f"{'a' * 300}.txt"
    with (
        pytest.raises(InputError, match=r"a.txt cannot be written \(File name too long\)"),
        write_atomically(too_long) as partial,
    ):
        partial.touch()


def test_another_problem_in_the_block_is_not_taken_for_one_of_writing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / "a.txt"):
        (tmp_path / "missing source").read_text()


def test_a_disk_without_space_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_text("old")
    # A limit on file size simulates a full disk: both fail in the same write.
    program = f"""
import resource
from pathlib import Path

import numpy as np

from mnist_cnn.data.arrays import write_arrays
from mnist_cnn.errors import report_errors

@report_errors
def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    images = np.zeros((9, 28, 28, 1), np.float32)
    write_arrays(Path({str(path)!r}), [images], np.zeros(9, np.int64))

main()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {path} cannot be written (")
    assert done.stderr.count("\n") == 1
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.npz", "old")]


def test_a_scratch_folder_is_removed(tmp_path: Path) -> None:
    parent = tmp_path / "new"
    with suppress(KeyError), scratch_folder(parent) as scratch:
        (scratch / "file").touch()
        raise KeyError
    assert list(parent.iterdir()) == []
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"file cannot be written \(.+\): expected a writable"),
        scratch_folder(tmp_path / "file"),
    ):
        pytest.fail("the block ran")
    with (
        pytest.raises(InputError, match=r"new cannot be written \(No space left on device\)"),
        scratch_folder(parent),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(parent.iterdir()) == []


WRITE_SLOWLY = """
import sys, time
from pathlib import Path
from mnist_cnn.files import write_atomically

with write_atomically(Path(sys.argv[1])) as partial, partial.open("w") as file:
    print("first half", file=file, flush=True)
    print(flush=True)
    sys.stdin.read()
    file.write("second half")
"""


@pytest.fixture
def slow_writer(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has written half of the file a.txt, and the rest when its input ends."""
    command = [sys.executable, "-c", WRITE_SLOWLY, str(tmp_path / "a.txt")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks that a kill releases")
def test_two_processes_do_not_disturb_each_other(
    tmp_path: Path, slow_writer: subprocess.Popen[bytes]
) -> None:
    path = tmp_path / "a.txt"
    with scratch_folder(tmp_path) as scratch:
        (scratch / "file").touch()
        with write_atomically(path) as partial:
            partial.write_text("other")
        assert path.read_text() == "other"
        slow_writer.communicate()
        assert path.read_text() == "first half\nsecond half"
        assert (scratch / "file").exists()
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_leaves_is_removed(
    tmp_path: Path, slow_writer: subprocess.Popen[bytes]
) -> None:
    slow_writer.kill()
    slow_writer.wait()
    (leftover,) = tmp_path.iterdir()
    assert leftover.suffix == ".partial"
    with write_atomically(tmp_path / "b.txt") as partial:
        partial.touch()
    assert list(tmp_path.iterdir()) == [tmp_path / "b.txt"]


def test_only_a_regular_file_of_a_sensible_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_limited(tmp_path / "file", 5) == read_limited(tmp_path / "link", 5) == b"12345"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for name, problem in (
        ("file", "it has 5 bytes"),
        ("pipe", "it is not a regular file"),
        ("endless", "it is not a regular file"),
        ("", "it is not a regular file"),
        ("loop", "Too many levels of symbolic links"),
        ("missing", "No such file or directory"),
        ("\0", "(stat: )?embedded null (byte|character in path)"),  # depends on Python
    ):
        with pytest.raises(InputError, match=rf"cannot be read \({problem}\): expected a file of"):
            read_limited(tmp_path / name, 4)


def test_csv_has_the_same_bytes_on_any_system(tmp_path: Path) -> None:
    write_csv(pd.DataFrame({"n": [1, 2], "x": [1 / 3, 2]}), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == b"n,x\n1,0.333333\n2,2.000000\n"
