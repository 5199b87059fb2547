from functools import partial

import pytest

from mnist_cnn.errors import InputError, reported


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("this is wrong"), 1, "error: this is wrong\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    @reported
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("error", [InputError(), KeyError()])
def test_a_command_can_have_an_exit_code_of_its_own(error: Exception) -> None:
    @partial(reported, exit_code=2)
    def main() -> None:
        raise error

    with pytest.raises(SystemExit, match="2"):
        main()


def test_a_bug_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    @reported
    def main() -> None:
        raise KeyError("bug")

    with pytest.raises(SystemExit, match="1"):
        main()
    assert capsys.readouterr().err.startswith("Traceback (most recent call last):\n")
