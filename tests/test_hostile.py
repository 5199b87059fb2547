"""Hostile inputs end in an answer or in one clear message.

`python -m benchmarks.hostile` tries more of them.
"""

import pytest

from benchmarks.hostile import KINDS, try_inputs


@pytest.mark.parametrize("name", KINDS)
def test_hostile_input_is_answered_or_refused(name: str) -> None:
    outcomes = try_inputs(KINDS[name], 40)
    assert outcomes["refused"] + outcomes["answered"] == 40
