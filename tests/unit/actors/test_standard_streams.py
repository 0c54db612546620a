"""A process whose log cannot grow prints on, and is none the worse for it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

PRINTS = """\
import faulthandler, sys
from trainerd.actors.trainer import standard_streams
standard_streams.forgive()
print("before", flush=True)
print("before, too", file=sys.stderr)
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, resource.RLIM_INFINITY))
for stream in (sys.stdout, sys.stderr):
    print("lost", file=stream, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
print("after")
faulthandler.enable()
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_a_full_disk_refuses_is_lost_and_raises_nothing(
    tmp_path: Path, unbuffered: str
) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    log = tmp_path / "log"
    with log.open("ab") as stream:
        done = subprocess.run(
            [sys.executable, "-c", PRINTS.replace("MOST", "19")],
            stdout=stream,
            stderr=stream,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            timeout=60.0,
            check=False,
        )
    assert done.returncode == 0
    assert log.read_text().splitlines() == ["before", "before, too", "after"]
