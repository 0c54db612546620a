"""Metrics as a CSV file that never changes its columns."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import final

from trainerd.actors.loggers.appending import AppendedFile
from trainerd.actors.loggers.logger import Field

_HEADER = "time_s,step,kind,name,value"


@final
class CsvLogger:
    r"""Appends to `path` one row a metric: `time_s,step,kind,name,value`.

    The long format: a metric that first appears at step 1,000 is just another row, so that the
    file is only ever appended to and a crash can cost no more than the row being written, which
    is removed at the next opening. `pandas.read_csv(p).pivot_table(index="step", columns="name",
    values="value", aggfunc="last")` makes it wide.

    `kind` is `metric` or `event`. Metrics have the shortest text that reads back as the same
    float, `nan`, `inf` or `-inf`. An event has a row for each field, named `event.field`, or one
    row without a value if there is none. `time_s` is Unix time. A line break in a text is written
    as `\n`, so that a row is a line. An existing file is continued: a step that is replayed
    after a restart stands there twice, and the later row counts. `sync`: see `AppendedFile`.
    Raises OSError or `TrainingError` where `path` cannot be used.
    """

    def __init__(
        self, path: str | Path, *, sync: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._file = AppendedFile(Path(path), header=_HEADER, sync=sync)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append a row for each metric, all at once."""
        self._append([(step, "metric", name, repr(float(x))) for name, x in metrics.items()])

    def event(self, step: int, name: str, fields: Mapping[str, Field]) -> None:
        """Append a row for each field."""
        rows = [(step, "event", f"{name}.{key}", str(x)) for key, x in fields.items()]
        self._append(rows or [(step, "event", name, "")])

    def close(self) -> None:
        """Sync and close the file."""
        self._file.close()

    def _append(self, rows: list[tuple[int, str, str, str]]) -> None:
        if not rows:
            return
        now_s = f"{self._clock():.3f}"
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for step, kind, name, value in rows:
            writer.writerow((now_s, step, kind, _one_line(name), _one_line(value)))
        self._file.append(text.getvalue().removesuffix("\n"))


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")
