"""How errors speak: one line for what a user can mend, a traceback for a bug."""

import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(Exception):
    """Something a user can mend: names the thing, what was expected and what to do."""


def reported(main: Callable[[], None], exit_code: int = 1) -> Callable[[], None]:
    """Decorate a command's `main`: an `InputError` becomes one line on stderr, any other error is a
    bug and keeps its traceback; both end with `exit_code`. Ctrl-C ends with exit code 130."""

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(exit_code)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except Exception:
            traceback.print_exc()
            sys.exit(exit_code)

    return run


@contextmanager
def silenced() -> Iterator[None]:
    """Keep off stderr what compiled libraries tell there that no log level suppresses."""
    stderr = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
