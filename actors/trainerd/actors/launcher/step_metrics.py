"""A run's step metrics, read for the daemon; nothing here writes but what a killed trainer left."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import grpc
import structlog

from trainerd.actors.launcher.refusals import Refused
from trainerd.actors.launcher.runs import RunFiles
from trainerd.actors.step_rows import StepRow
from trainerd.actors.step_store import FILE, RING, read_page, rescue
from trainerd.v1 import launcher_pb2, run_pb2

MAX_BYTES = 2 * 1024 * 1024
MAX_ROWS = 5000

_log = structlog.get_logger("trainerd.launcher")


def read_steps(
    files: RunFiles, request: launcher_pb2.ReadStepMetricsRequest
) -> launcher_pb2.ReadStepMetricsResponse:
    """A page of them. Raise `Refused`."""
    if not 1 <= request.limit <= MAX_ROWS:
        raise Refused(
            code=grpc.StatusCode.INVALID_ARGUMENT,
            reason="INVALID_ARGUMENT",
            message=f"limit must be 1 to {MAX_ROWS}, got {request.limit}",
        )
    try:
        page = read_page(
            files.root / FILE,
            after=request.after_step,
            limit=request.limit,
            max_bytes=MAX_BYTES,
        )
    except (sqlite3.Error, ValueError) as error:
        raise Refused(
            code=grpc.StatusCode.UNAVAILABLE,
            reason="METRICS_UNREADABLE",
            message=f"{files.root / FILE} cannot be read now: {error}",
        ) from error
    return launcher_pb2.ReadStepMetricsResponse(
        steps=[_message(row) for row in page.rows],
        more=page.more,
        names=page.names,
        lost=page.lost,
    )


def rescue_steps(state: Path, run: str, memory: Path) -> None:
    """Bring to disk what a run's last trainer has left in memory, which is about to be freed."""
    try:
        rows = rescue(memory / RING, RunFiles.of(state, run).root / FILE)
    except (OSError, ValueError, sqlite3.Error) as error:
        _log.warning("step_metrics_not_rescued", run=run, error=str(error))
        return
    if rows:
        _log.info("step_metrics_rescued", run=run, rows=rows)


def _message(row: StepRow) -> run_pb2.StepMetrics:
    message = run_pb2.StepMetrics(
        step=row.step,
        batch=row.batch,
        loss=row.loss,
        gradient_norm=row.gradient_norm,
        metrics=row.metrics,
        duration_s=row.duration_s,
        data_wait_s=row.data_wait_s,
        examples=row.examples,
        incarnation=row.incarnation,
    )
    message.time.FromNanoseconds(int(row.time * 1e9))
    return message
