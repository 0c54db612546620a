"""Watching on a terminal: a progress bar, the figures, the last events, redrawn in place."""

from __future__ import annotations

from collections import deque

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainerd.clients.report import ENDED, checkpoint_text, key_metric, left_out, loss_text
from trainerd.clients.sentences import kind_of, sentence, state_word
from trainerd.clients.wording import clock, duration, figure, one_line, percent, rate
from trainerd.v1 import control_pb2, run_pb2

_EVENTS_SHOWN = 5
_REASON_LINES = 2
_COLUMNS = 3
_GAP, _INDENT = "  ", "  "
_SHORTEST_BAR = 12
_SHORTEST_ID, _ID_END = 12, 7
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
    """The picture of a run: at most fourteen lines, however wide the terminal is.

    Nothing wraps but the reason, over two lines at most; what has no room in a line of figures goes
    into the next one, and only what is longer than a line is cut. The state is always to be seen.
    """
    return _Picture(run, recent)


class _Picture:
    def __init__(self, run: run_pb2.Run, recent: list[str]) -> None:
        self._run, self._recent = run, recent

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        yield Group(
            *_heading(self._run, console, width),
            *_bar(self._run, width),
            *(Text(line, no_wrap=True, overflow="ellipsis") for line in _figures(self._run, width)),
            *(Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in self._recent),
        )


def _heading(run: run_pb2.Run, console: Console, width: int) -> list[Text]:
    state, reason = state_word(run.state), one_line(run.reason)
    first = Text(no_wrap=True, overflow="ellipsis")
    first.append(_short(one_line(run.id), width - len(state) - len(_GAP)), style="bold")
    first.append(_GAP)
    first.append(state, style=_STYLES.get(run.state, "bold"))
    if not reason:
        return [first]
    if first.cell_len + len(_GAP) + Text(reason).cell_len <= width:
        return [first.append(_GAP + reason)]
    lines = list(Text(reason).wrap(console, max(width - len(_INDENT), 1)))
    if len(lines) > _REASON_LINES:
        lines = lines[:_REASON_LINES]
        lines[-1].append("…")
        lines[-1].truncate(max(width - len(_INDENT), 1), overflow="ellipsis")
    return [first, *(Text(_INDENT).append_text(line) for line in lines)]


def _bar(run: run_pb2.Run, width: int) -> list[RenderableType]:
    steps = run.spec.train.steps
    bar = ProgressBar(total=max(steps, 1), completed=run.step)
    text = f"{run.step:,}/{steps:,} {percent(run.step, steps)}"
    if run.eta_s > 0 and run.state not in ENDED:
        text += f"{_GAP}{duration(run.eta_s)} to go"
    if width - len(text) - len(_GAP) < _SHORTEST_BAR:
        return [bar, Text(text, no_wrap=True, overflow="ellipsis")]
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    row.add_row(bar, text)
    return [row]


def _figures(run: run_pb2.Run, width: int) -> list[str]:
    moves = run.state not in ENDED and run.steps_per_second > 0
    recovery = f" ({duration(run.last_recovery_s)})" if run.last_recovery_s else ""
    rollbacks = f", rollbacks {run.rollbacks}" if run.rollbacks else ""
    rows = [
        [
            f"loss {loss_text(run)}",
            f"{rate(run.steps_per_second) if moves else '-'} steps/s",
            f"{rate(run.examples_per_second) if moves else '-'} examples/s",
        ],
        [
            f"checkpoint: {checkpoint_text(run)}",
            f"restarts {run.restarts}{rollbacks}{recovery}",
            left_out(run.skipped_batches, run.masked_slots)
            if run.masked_slots
            else f"skipped {run.skipped_batches:,}",
        ],
    ]
    metric = key_metric(run.last_evaluation)
    if metric:
        rows.append(
            [f"{one_line(metric[0])} {figure(metric[1])}", f"at step {run.last_evaluation.step:,}"]
        )
    return [line for row in rows for line in _columns(row, width)]


def _columns(cells: list[str], width: int) -> list[str]:
    """The cells in three columns if they fit into them, else one behind the other, in lines."""
    column = (width + len(_GAP)) // _COLUMNS
    if all(len(cell) + len(_GAP) <= column for cell in cells[:-1]) and len(cells[-1]) <= column:
        return ["".join(f"{cell:<{column}}" for cell in cells).rstrip()]
    lines = [cells[0]]
    for cell in cells[1:]:
        if len(lines[-1]) + len(_GAP) + 1 + len(cell) <= width:
            lines[-1] += f"{_GAP} {cell}"
        else:
            lines.append(cell)
    return lines


def _short(text: str, width: int) -> str:
    """An id that is too long without its middle: its end tells runs of one name apart."""
    if len(text) <= width or width < _SHORTEST_ID:
        return text
    return f"{text[: width - _ID_END - 1]}…{text[-_ID_END:]}"
