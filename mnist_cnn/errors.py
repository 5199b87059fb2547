"""How errors speak: one line for what a user can mend, a traceback for a bug."""

import functools
import sys
from collections.abc import Callable


class InputError(Exception):
    """Something a user can mend: names the thing, what was expected and what to do."""


def reported(main: Callable[[], None], exit_code: int = 1) -> Callable[[], None]:
    """Decorate a command's `main`: an `InputError` becomes one line on stderr and `exit_code`,
    Ctrl-C exit code 130. Anything else is a bug and keeps its traceback."""

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

    return run
