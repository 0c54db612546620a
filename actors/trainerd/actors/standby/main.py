"""The standby's command line: room for a trainer's title, and the socket."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from trainerd.actors.standby.serving import serve
from trainerd.actors.trainer import birth


def main() -> NoReturn:
    """Serve until the launcher goes, and exit; never returns."""
    parser = argparse.ArgumentParser(prog="python -m trainerd.actors.standby")
    parser.add_argument("--run", required=True, help="whose trainers it forks")
    parser.add_argument("--incarnation", choices=["next"], help="makes room for a trainer's title")
    parser.add_argument("--launcher", type=int, required=True, help="process it ends with")
    parser.add_argument("--socket", type=int, required=True, help="a descriptor, to the launcher")
    parser.add_argument("--blas-threads", help="what the run's environment says of them")
    given = parser.parse_args()
    if not birth.launcher_lives(given.launcher):
        os._exit(1)
    # A program sees the arguments of a trainer.
    sys.argv = [str(Path(birth.__file__).with_name("__main__.py"))]
    os.set_inheritable(given.socket, False)
    with socket.socket(fileno=given.socket) as link:
        code = serve(link, limit=given.blas_threads)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
