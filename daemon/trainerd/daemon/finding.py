"""Which run a client means."""

from __future__ import annotations

from typing import Any

import grpc

from trainerd.daemon.refusals import refuse
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.supervision.state import Run

_Context = grpc.aio.ServicerContext[Any, Any]


async def find_run(runtime: Runtime, context: _Context, text: str) -> Run:
    """The run of this id, or of this unique beginning of one; ends the call if there is none."""
    runs = runtime.state.runs
    if text in runs:
        return runs[text]
    found = [run for run in runs.values() if text and run.id.startswith(text)]
    if len(found) == 1:
        return found[0]
    if not found:
        message = f'there is no run "{text}"'
    else:
        names = ", ".join(sorted(run.id for run in found)[:5])
        message = f'"{text}" is the beginning of {len(found)} runs: {names}'
    await refuse(context, grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND", message)
