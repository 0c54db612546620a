"""A clock that is wrong: every Python process with this folder on its path has it.

Only what `time` says changes; what decides by it would be seen. `CLOCK_AHEAD_S`: by how much.
"""

import os
import time

AHEAD_S = float(os.environ["CLOCK_AHEAD_S"])
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + AHEAD_S
time.time_ns = lambda: _time_ns() + int(AHEAD_S * 1e9)
