import subprocess
import sys
from functools import partial

import pytest

from mnist_cnn.errors import InputError, report_errors, warn
from tests.helpers import ENVIRONMENT, ROOT


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("this is wrong"), 1, "error: this is wrong\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_an_error_the_user_can_fix_is_one_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    @report_errors
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("error", [InputError(), KeyError()])
def test_a_command_can_have_an_exit_code_of_its_own(error: Exception) -> None:
    @partial(report_errors, exit_code=2)
    def main() -> None:
        raise error

    with pytest.raises(SystemExit, match="2"):
        main()


def test_a_bug_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    @report_errors
    def main() -> None:
        raise KeyError("bug")

    with pytest.raises(SystemExit, match="1"):
        main()
    assert capsys.readouterr().err.startswith("Traceback (most recent call last):\n")


PROGRAM = """if True:
    from mnist_cnn.errors import report_errors

    @report_errors
    def main():
        print("line")

    main()
"""
FULL = "output cannot be written (No space left on device): expected free space; free some, or"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("> /dev/full", f"error: {FULL} write elsewhere\n"),
        (">&-", "error: standard output is closed: expected it open; redirect it to a file\n"),
    ],
)
def test_an_unusable_standard_output_is_one_line(output: str, line: str, unbuffered: str) -> None:
    command = f"'{sys.executable}' -c '{PROGRAM}' {output}"
    environment = ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, line)


def test_terminals_are_not_controlled(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[31m\r\u202e\udcff.png"

    @report_errors
    def main() -> None:
        warn(name)
        raise InputError(name)

    with pytest.raises(SystemExit):
        main()
    shown = r"a\x1b[31m\r\u202e\udcff.png"
    assert capsys.readouterr().err == f"warning: {shown}\nerror: {shown}\n"


def test_a_reader_that_closes_the_pipe_gets_no_traceback() -> None:
    program = """if True:
        from mnist_cnn.errors import report_errors

        @report_errors
        def main():
            for _ in range(100_000):
                print("line")

        main()
    """
    command = f"'{sys.executable}' -c '{program}' | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (141, "line\n", "")
