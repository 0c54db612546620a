"""A run as text: the table of `list`, the detail of `status`, the result at the end."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

from trainerd.clients.sentences import fault_sentence, metrics_text, phase_word, state_word
from trainerd.clients.wording import (
    age,
    date_and_clock,
    duration,
    figure,
    one_line,
    percent,
    plural,
    printable,
    rate,
    size,
)
from trainerd.v1 import fault_pb2, run_pb2, timesheet_pb2

ENDED = frozenset(
    {run_pb2.RUN_STATE_STOPPED, run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED}
)
"""The states that a run does not leave by itself."""

_LABEL_WIDTH = 12
_MOST_PARTS = 5


def table(runs: Iterable[run_pb2.Run], now: datetime.datetime) -> list[str]:
    """Aligned rows with a heading; `now` gives the ages. One line where there are no runs."""
    rows = [("RUN", "STATE", "STEP", "LOSS", "RESTARTS", "CHECKPOINT", "AGE")]
    rows += [
        (
            one_line(run.id),
            state_word(run.state),
            f"{run.step:,}/{run.spec.train.steps:,}",
            loss_text(run),
            f"{run.restarts}",
            f"{run.durable_step:,}" if run.durable_step >= 0 else "-",
            age(run.submitted_at, now),
        )
        for run in runs
    ]
    if len(rows) == 1:
        return ["no runs"]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [_row(row, widths) for row in rows]


def detail(run: run_pb2.Run, now: datetime.datetime) -> list[str]:
    """Everything about a run that people ask for, one labelled line each."""
    rows = [
        ("run", one_line(run.id)),
        ("state", state_word(run.state)),
        ("why", one_line(run.reason)),
        ("step", progress_text(run)),
        ("loss", _loss_history(run)),
        *_evaluations(run),
        ("restarts", _restarts(run)),
        ("policy", f"version {run.policy_version}" if run.policy_version else ""),
        ("memory", _split(run)),
        ("left out", left_out(run.skipped_batches, run.masked_slots)),
        ("time", time_text(run)),
        ("checkpoint", checkpoint_text(run)),
        *_saving(run),
        *_snapshots(run),
        ("trainer", _trainer(run)),
        ("submitted", f"{date_and_clock(run.submitted_at)} ({age(run.submitted_at, now)} ago)"),
    ]
    if run.HasField("ended_at"):
        rows.append(("ended", f"{date_and_clock(run.ended_at)} ({age(run.ended_at, now)} ago)"))
    lines = [_labelled(label, text) for label, text in rows if text]
    if run.HasField("last_fault"):
        lines += _fault(run.last_fault, "last fault", run.state == run_pb2.RUN_STATE_FAILED)
    return lines + _result(run)


def outcome(run: run_pb2.Run) -> list[str]:
    """How a run ended: a headline, the user's traceback if it failed, the result."""
    lines = [f"{one_line(run.id)} {_headline(run)}"]
    if run.state == run_pb2.RUN_STATE_FAILED and run.HasField("last_fault"):
        lines += _fault(run.last_fault, "fault", True)
    lines += [_labelled("loss", _loss_history(run))]
    lines += [_labelled(label, text) for label, text in _evaluations(run)]
    lines.append(_labelled("restarts", _restarts(run)))
    lines.append(_labelled("left out", left_out(run.skipped_batches, run.masked_slots)))
    if not run.HasField("result"):
        lines.append(_labelled("checkpoint", checkpoint_text(run)))
    lines += _result(run)
    if run.state == run_pb2.RUN_STATE_STOPPED:
        lines.append(f"to go on from its checkpoint: --resume {one_line(run.id)}")
    return lines


def progress_text(run: run_pb2.Run) -> str:
    """`212 of 400 (53 %), 12.1 steps/s, 387 examples/s, 16 s to go`."""
    parts = [
        f"{run.step:,} of {run.spec.train.steps:,} ({percent(run.step, run.spec.train.steps)})"
    ]
    if run.state not in ENDED and run.steps_per_second > 0:
        parts.append(f"{rate(run.steps_per_second)} steps/s")
        parts.append(f"{rate(run.examples_per_second)} examples/s")
    if run.state not in ENDED and run.eta_s > 0:
        parts.append(f"{duration(run.eta_s)} to go")
    return ", ".join(parts)


def loss_text(run: run_pb2.Run) -> str:
    """The newest loss; "-" before the first update."""
    return figure(run.loss) if run.step > 0 else "-"


def time_text(run: run_pb2.Run) -> str:
    """`91 % productive, 5 % restart, 3 % compile, 1 % other`: the largest parts, in order."""
    whole_s = sum(each.seconds for each in run.times)
    if whole_s <= 0:
        return ""
    parts = sorted(run.times, key=lambda each: (-each.seconds, each.activity))
    shown = [each for each in parts[:_MOST_PARTS] if each.seconds > whole_s / 200]
    texts = [f"{_part(each.seconds, whole_s)} {_activity_word(each)}" for each in shown]
    other_s = whole_s - sum(each.seconds for each in shown)
    if other_s > whole_s / 200:
        texts.append(f"{_part(other_s, whole_s)} other")
    return ", ".join(texts)


def _part(seconds: float, whole_s: float) -> str:
    return f"{100 * seconds / whole_s:.0f} %"


def _activity_word(part: timesheet_pb2.ActivityTime) -> str:
    if part.activity not in timesheet_pb2.Activity.values():
        return "other"
    name = timesheet_pb2.Activity.Name(part.activity)
    return name.removeprefix("ACTIVITY_").lower().replace("_", " ")


def left_out(skipped_batches: int, masked_slots: int) -> str:
    """`2 batches skipped, 1 slot masked`."""
    return f"{plural(skipped_batches, 'batch')} skipped, {plural(masked_slots, 'slot')} masked"


def checkpoint_text(run: run_pb2.Run) -> str:
    """The newest durable step, and failures in a row."""
    durable = f"step {run.durable_step:,} is durable" if run.durable_step >= 0 else "none yet"
    if run.checkpoint_failures:
        durable += f"; {plural(run.checkpoint_failures, 'save')} failed in a row"
    if run.checkpoint.fallback:
        durable += "; in the fallback directory"
    return durable


def _saving(run: run_pb2.Run) -> list[tuple[str, str]]:
    """Where checkpoints are, how often they are made, what the disk has left, what failed."""
    status, rows = run.checkpoint, []
    if status.path:
        rows.append(("", status.path))
    spec, when = run.spec.checkpoint, []
    if status.every_steps:
        chosen = ", chosen from what saves cost" if spec.auto_interval else ""
        when.append(f"{plural(status.every_steps, 'step')}{chosen}")
    if spec.every_s:
        when.append(duration(spec.every_s))
    if when:
        rows.append(("", f"every {' and every '.join(when)}"))
    if status.disk_bytes:
        full = ""
        if status.HasField("disk_full_at"):
            full = f"; the disk is full at {date_and_clock(status.disk_full_at)} at this rate"
        free = f"{size(status.disk_free_bytes)} free" if status.disk_free_bytes >= 0 else ""
        used = f"{size(status.disk_bytes)} kept"
        rows.append(("", ", ".join(filter(None, (used, free))) + full))
    if run.checkpoint_failures and status.failure:
        rows.append(("", one_line(status.failure)))
    return rows


def key_metric(evaluation: run_pb2.Evaluation) -> tuple[str, float] | None:
    """The metric to show where there is room for one: bits per byte, else the first by name."""
    if not evaluation.metrics:
        return None
    name = "bits_per_byte" if "bits_per_byte" in evaluation.metrics else min(evaluation.metrics)
    return name.replace("_", " "), evaluation.metrics[name]


def _headline(run: run_pb2.Run) -> str:
    why = f": {one_line(run.reason)}" if run.reason else ""
    return f"{state_word(run.state)} at step {run.step:,} of {run.spec.train.steps:,}{why}"


def _loss_history(run: run_pb2.Run) -> str:
    if run.step == 0:
        return "-"
    return f"{figure(run.loss)} (first {figure(run.first_loss)})"


def _evaluations(run: run_pb2.Run) -> list[tuple[str, str]]:
    rows = []
    if run.HasField("last_evaluation"):
        last = run.last_evaluation
        rows.append(("evaluation", f"step {last.step:,}: {metrics_text(last.metrics)}"))
    if run.HasField("first_evaluation") and run.first_evaluation.step != run.last_evaluation.step:
        first = run.first_evaluation
        rows.append(("", f"first, step {first.step:,}: {metrics_text(first.metrics)}"))
    return rows


def _snapshots(run: run_pb2.Run) -> list[tuple[str, str]]:
    if not run.snapshot_every:
        return []
    newest = f", the newest of step {run.snapshot_step:,}" if run.snapshot_step else ""
    return [("in memory", f"every {plural(run.snapshot_every, 'step')}{newest}")]


def _restarts(run: run_pb2.Run) -> str:
    recovery = f", the last recovery took {duration(run.last_recovery_s)}"
    rollbacks = f" and {plural(run.rollbacks, 'rollback')}" if run.rollbacks else ""
    return f"{run.restarts}{rollbacks}{recovery if run.last_recovery_s else ''}"


def _split(run: run_pb2.Run) -> str:
    if run.slot_parts <= 1:
        return ""
    return f"each slot is computed in {run.slot_parts} parts: it did not suffice for a whole one"


def _trainer(run: run_pb2.Run) -> str:
    if run.pid == 0:
        return "none"
    link = "" if run.attached else ", not attached to the daemon"
    return f"incarnation {run.incarnation}, pid {run.pid}, phase {phase_word(run.phase)}{link}"


def _fault(fault: fault_pb2.Fault, label: str, whole: bool) -> list[str]:
    lines = [_labelled(label, fault_sentence(fault))]
    if fault.suggestion:
        lines.append(_labelled("", f"what to do: {one_line(fault.suggestion)}"))
    if whole and fault.detail:
        lines += [f"    | {line}" for line in printable(fault.detail).rstrip().splitlines()]
    return lines


def _result(run: run_pb2.Run) -> list[str]:
    if not run.HasField("result"):
        return []
    result = run.result
    rows = [
        (
            "result",
            f"step {result.step:,}, {plural(result.batches, 'batch')} read, "
            f"{left_out(result.skipped_batches, result.masked_slots)}",
        ),
        ("digest", result.state_digest),
        (
            "saved",
            f"step {result.durable_step:,}: {result.checkpoint}" if result.checkpoint else "",
        ),
    ]
    return [_labelled(label, one_line(text)) for label, text in rows if text]


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_LABEL_WIDTH}}{text}"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    left, right = cells[:2], cells[2:]
    parts = [f"{cell:<{width}}" for cell, width in zip(left, widths, strict=False)]
    parts += [f"{cell:>{width}}" for cell, width in zip(right, widths[2:], strict=True)]
    return "  ".join(parts)
