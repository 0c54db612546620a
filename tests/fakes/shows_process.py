"""A program that writes down what kind of process it finds itself in, and ends it."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import random
import resource
import signal
import socket
import stat
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

PR_GET_PDEATHSIG = 2
LOOKS, BETWEEN_LOOKS_S = 10, 0.02
AT_IMPORT = {
    "environment": dict(os.environ),
    "arguments": list(sys.argv),
    "directory": os.getcwd(),
    "path": list(sys.path),
}


def build(folder: str) -> NoReturn:
    path = Path(folder) / f"{os.getpid()}.json"
    path.with_suffix(".new").write_text(json.dumps(observed()))
    path.with_suffix(".new").rename(path)
    os._exit(0)


def observed() -> dict[str, Any]:
    mask = os.umask(0)
    os.umask(mask)
    status = Path("/proc/self/status").read_text().splitlines()
    return {
        "same": {
            "at import": AT_IMPORT,
            "environment": dict(os.environ),
            "arguments": list(sys.argv),
            "directory": os.getcwd(),
            "path": list(sys.path),
            "umask": mask,
            "group leader": os.getpgid(0) == os.getpid(),
            "session": os.getsid(0),
            "parent": os.getppid(),
            "death signal": _death_signal(),
            "niceness": os.getpriority(os.PRIO_PROCESS, 0),
            "scheduler": os.sched_getscheduler(0),
            "affinity": sorted(os.sched_getaffinity(0)),
            "signals": [line for line in status if line.startswith(("SigIgn", "SigBlk", "SigCgt"))],
            "handled": {s.name: str(signal.getsignal(s))[:20] for s in signal.Signals},
            "faulthandler": faulthandler.is_enabled(),
            "limits": [resource.getrlimit(n) for n in range(16)],
            "descriptors": _descriptors(),
            "memory of children": Path("/proc/self/oom_score_adj").read_text(),
            "BLAS threads": _blas_threads(),
            "name": Path("/proc/self/comm").read_text(),
            "interpreter": [sys.executable, sys.flags.safe_path, sys.dont_write_bytecode],
        },
        "own": {"random": random.random(), "numpy": np.random.random()},
        "title": Path("/proc/self/cmdline").read_text().rstrip("\0").split("\0"),
        "pid": os.getpid(),
    }


def _death_signal() -> int:
    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(PR_GET_PDEATHSIG, ctypes.byref(number), 0, 0, 0)
    return number.value


def _descriptors() -> list[list[Any]]:
    """Files, pipes and packet sockets that are kept: what another thread has open for a moment
    is not there at every look; gRPC's own come and go, as do those of the thread that keeps step
    metrics."""
    kept = Counter(map(tuple, _open_now()))
    for _ in range(LOOKS - 1):
        time.sleep(BETWEEN_LOOKS_S)
        kept &= Counter(map(tuple, _open_now()))
    return [list(descriptor) for descriptor in kept.elements()]


def _open_now() -> list[list[Any]]:
    found = []
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            mode = os.fstat(int(name)).st_mode
        except OSError:
            continue
        if stat.S_ISSOCK(mode):
            with socket.socket(fileno=os.dup(int(name))) as probe:
                if probe.type == socket.SOCK_STREAM:
                    continue
        if target.startswith("anon_inode:") or "/metrics." in target:
            continue
        target = "its log" if target.endswith(".log") else target
        number = int(name) if int(name) <= 2 else "some"
        found.append([number, target, os.get_inheritable(int(name))])
    return found


def _blas_threads() -> list[int]:
    maps = Path("/proc/self/maps").read_text().splitlines()
    paths = sorted({"/" + line.partition("/")[2] for line in maps if "openblas" in line})
    return [ctypes.CDLL(path).scipy_openblas_get_num_threads64_() for path in paths]
