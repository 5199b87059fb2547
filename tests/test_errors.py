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


def test_a_bug_keeps_its_traceback() -> None:
    @reported
    def main() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        main()
