"""Watching on a terminal: a progress bar, the figures, the last events, redrawn in place."""

from __future__ import annotations

from collections import deque

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainerd.clients.report import ENDED, checkpoint_text, key_metric, left_out, loss_text
from trainerd.clients.sentences import kind_of, sentence, state_word
from trainerd.clients.wording import clock, duration, figure, one_line, percent, rate
from trainerd.v1 import control_pb2, run_pb2

_EVENTS_SHOWN = 5
# Said by the figures already, or of no use to a person who watches.
_NOT_SHOWN = frozenset({"timer_fired", "event_ignored", "phase_entered", "trainer_attached"})
_STYLES = {
    run_pb2.RUN_STATE_RUNNING: "bold green",
    run_pb2.RUN_STATE_COMPLETED: "bold green",
    run_pb2.RUN_STATE_RECOVERING: "bold yellow",
    run_pb2.RUN_STATE_FAILED: "bold red",
}


class LiveView:
    """Redraws the lower lines of a terminal."""

    def __init__(self, console: Console) -> None:
        """Draws on `console` until `close`."""
        self._run = run_pb2.Run()
        self._recent: deque[str] = deque(maxlen=_EVENTS_SHOWN)
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def show(self, response: control_pb2.WatchRunResponse) -> None:
        """Remember it; the next tick draws it."""
        self._run = response.run
        self._recent.extend(
            f"{clock(event.time)}  {sentence(event)}"
            for event in response.events
            if kind_of(event) not in _NOT_SHOWN
        )

    def tick(self) -> None:
        """Draw."""
        if self._run.id:
            self._live.update(rendered(self._run, list(self._recent)), refresh=True)

    def note(self, text: str) -> None:
        """A line above the picture."""
        self._live.console.print(Text(text, style="bold"))

    def close(self) -> None:
        """Draw a last time and leave the picture where it is."""
        self.tick()
        self._live.stop()


def rendered(run: run_pb2.Run, recent: list[str]) -> RenderableType:
    """The picture of a run: at most twelve lines, meant for 80 columns and more."""
    lines: list[RenderableType] = [_heading(run), _bar(run), _figures(run)]
    lines += [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in recent]
    return Group(*lines)


def _heading(run: run_pb2.Run) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(one_line(run.id), style="bold")
    text.append("  ")
    text.append(state_word(run.state), style=_STYLES.get(run.state, "bold"))
    if run.reason:
        text.append(f"  {one_line(run.reason)}")
    return text


def _bar(run: run_pb2.Run) -> Table:
    steps = run.spec.train.steps
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    bar = ProgressBar(total=max(steps, 1), completed=run.step)
    count = f"{run.step:,}/{steps:,} {percent(run.step, steps)}"
    to_go = run.eta_s > 0 and run.state not in ENDED
    row.add_row(bar, f"{count}  {duration(run.eta_s)} to go" if to_go else count)
    return row


def _figures(run: run_pb2.Run) -> Table:
    table = Table.grid(expand=True, padding=(0, 2))
    for _ in range(3):
        table.add_column(no_wrap=True, overflow="ellipsis")
    metric = key_metric(run.last_evaluation)
    evaluated = f"{metric[0]} {figure(metric[1])}" if metric else ""
    moves = run.state not in ENDED and run.steps_per_second > 0
    recovery = f" ({duration(run.last_recovery_s)})" if run.last_recovery_s else ""
    rollbacks = f", rollbacks {run.rollbacks}" if run.rollbacks else ""
    table.add_row(
        f"loss {loss_text(run)}",
        f"{rate(run.steps_per_second) if moves else '-'} steps/s",
        f"{rate(run.examples_per_second) if moves else '-'} examples/s",
    )
    table.add_row(
        f"checkpoint: {checkpoint_text(run)}",
        f"restarts {run.restarts}{rollbacks}{recovery}",
        left_out(run.skipped_batches, run.masked_slots)
        if run.masked_slots
        else f"skipped {run.skipped_batches}",
    )
    if evaluated:
        table.add_row(evaluated, f"at step {run.last_evaluation.step:,}", "")
    return table
