"""`python -m trainerd.actors.exporter LAUNCHER_PID`: writes a checkpoint's parameters elsewhere.

Started by the launcher in the user's Python, on the CPU, and ends with it. Reads a serialised
ExportParametersRequest from standard input and writes a serialised ExportParametersResponse to
standard output.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from trainerd.actors.trainer import birth
from trainerd.v1 import launcher_pb2


def main() -> None:
    """Export one checkpoint and exit."""
    # Before anything heavy is imported: a launcher that dies meanwhile takes this process along.
    birth.die_with_launcher()
    request = launcher_pb2.ExportParametersRequest.FromString(birth.read_assignment())
    if not birth.launcher_lives(int(sys.argv[1])):
        sys.exit("the launcher is gone already")
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(message)s")

    from trainerd.actors.answering import answer_alone  # noqa: PLC0415

    with answer_alone() as answer:
        answer.write(export(request).SerializeToString())
    sys.stderr.flush()
    # Orbax may have left a thread behind that never ends.
    os._exit(0)


def export(
    request: launcher_pb2.ExportParametersRequest,
) -> launcher_pb2.ExportParametersResponse:
    """Export; a problem that a user can act on is told in the response."""
    # Imports jax.
    from trainerd.actors.errors import CheckpointError  # noqa: PLC0415
    from trainerd.actors.exporting import export_parameters  # noqa: PLC0415

    told = launcher_pb2.ExportParametersResponse(
        step=request.step, path=request.path, directory=request.directory
    )
    try:
        exported = export_parameters(Path(request.path), Path(request.directory))
    except CheckpointError as error:
        told.problem = str(error)
    except OSError as error:
        told.problem = f"{error.filename or request.directory}: {error.strerror or error}"
    else:
        told.arrays, told.parameters = exported.arrays, exported.parameters
        told.bytes = exported.size_bytes
    return told


if __name__ == "__main__":
    main()
