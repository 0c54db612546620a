"""Clients of the trainerd daemon: `Client`, a typed Python client, and `trainerctl`.

```python
from trainerd.clients import Client

with Client() as client:
    for run in client.list_runs().runs:
        print(run.id, run.step, run.loss)
```

Nothing here imports jax; names are loaded when they are first used, so that `trainerctl --help`
does not wait for gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainerd.clients.address import Tls
    from trainerd.clients.client import Client
    from trainerd.clients.errors import (
        ApiError,
        BadInput,
        DeadlineExceeded,
        ExitCode,
        InvalidRun,
        NotFound,
        PermissionDenied,
        Refused,
        TrainerdError,
        Unreachable,
    )
    from trainerd.clients.following import Patience, follow_events
    from trainerd.clients.runfile import RunFile, load_run_file

__all__ = [
    "ApiError",
    "BadInput",
    "Client",
    "DeadlineExceeded",
    "ExitCode",
    "InvalidRun",
    "NotFound",
    "Patience",
    "PermissionDenied",
    "Refused",
    "RunFile",
    "Tls",
    "TrainerdError",
    "Unreachable",
    "follow_events",
    "load_run_file",
]

_HOMES = {
    "Client": "client",
    "Patience": "following",
    "Tls": "address",
    "follow_events": "following",
    "RunFile": "runfile",
    "load_run_file": "runfile",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}")
    return getattr(home, name)
