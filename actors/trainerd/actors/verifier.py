"""`python -m trainerd.actors.verifier LAUNCHER_PID`: reads a run's checkpoints from the disk.

Started by the launcher, and ends with it; it may be told to make one of them durable. Reads a
serialised ReadCheckpointsRequest from standard input and writes a serialised
ReadCheckpointsResponse to standard output. Goes easy on a host that trains: it takes what the
trainers leave of the processor and of the disk, and reads one file at a time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from trainerd.actors.launcher.checkpoint_adoption import adopt
from trainerd.actors.launcher.checkpoint_listing import stored
from trainerd.actors.trainer import birth
from trainerd.v1 import launcher_pb2

_NICE = 19


def main() -> None:
    """Verify the checkpoints of one run, or adopt one of them, and exit."""
    birth.die_with_launcher()
    request = launcher_pb2.ReadCheckpointsRequest.FromString(birth.read_assignment())
    if not birth.launcher_lives(int(sys.argv[1])):
        sys.exit("the launcher is gone already")
    os.nice(_NICE)
    places = [Path(place) for place in request.directories]
    if request.HasField("adopt_step"):
        response = adopt(places, request.adopt_step)
    else:
        found = stored(places, verify=request.verify)
        response = launcher_pb2.ReadCheckpointsResponse(checkpoints=found)
    sys.stdout.buffer.write(response.SerializeToString())


if __name__ == "__main__":
    main()
