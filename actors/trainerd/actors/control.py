"""The control word: what a process asks of all processes at a step, one int32 lane a request."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np

LANES: Final = 8
PAUSE: Final = 0
SAVE: Final = 1
STOP: Final = 2
PROFILE: Final = 3
PREEMPT: Final = 4
BAD_DATA: Final = 5
ELECTIVE: Final = 6
"""What the first process wants by itself, as a sum of the three below; the others say nothing."""
CLOCK: Final = 7
"""Whole seconds that the first process has trained; the others say nothing."""

ELECTIVE_SAVE: Final = 1
ELECTIVE_SNAPSHOT: Final = 2
ELECTIVE_RULES: Final = 4

WITH_SAVE: Final = 1
"""Value of STOP and PREEMPT: end after a durable save."""
WITHOUT_SAVE: Final = 2
"""Value of STOP and PREEMPT: end at once. Above WITH_SAVE, so that it wins the reduction."""

Word: TypeAlias = np.ndarray[Any, np.dtype[np.int32]]


def word(**lanes: int) -> Word:
    """Make a control word from lane names in lower case, such as `word(pause=1)`."""
    made = np.zeros(LANES, np.int32)
    for name, value in lanes.items():
        made[_INDEX[name]] = value
    return made


_INDEX: Final = {
    "pause": PAUSE,
    "save": SAVE,
    "stop": STOP,
    "profile": PROFILE,
    "preempt": PREEMPT,
    "bad_data": BAD_DATA,
    "elective": ELECTIVE,
    "clock": CLOCK,
}
