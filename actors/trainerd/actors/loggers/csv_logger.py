"""Metrics as a CSV file that never changes its columns."""

from __future__ import annotations

import csv
import functools
import io
import time
from collections.abc import Callable, Iterable, Mapping
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
        self._append(step, "metric", [(_cell(name), repr(float(x))) for name, x in metrics.items()])

    def event(self, step: int, name: str, fields: Mapping[str, Field]) -> None:
        """Append a row for each field."""
        rows = [(_cell(f"{name}.{key}"), _quoted(str(x))) for key, x in fields.items()]
        self._append(step, "event", rows or [(_cell(name), "")])

    def close(self) -> None:
        """Sync and close the file."""
        self._file.close()

    def _append(self, step: int, kind: str, rows: Iterable[tuple[str, str]]) -> None:
        """Append rows of a name and a value, both as they stand in the file."""
        first = f"{self._clock():.3f},{step},{kind},"
        lines = [f"{first}{name},{value}" for name, value in rows]
        if lines:
            self._file.append("\n".join(lines))


def _quoted(text: str) -> str:
    """A text as one cell, on one line."""
    cell = io.StringIO()
    line = text.replace("\r", "\\r").replace("\n", "\\n")
    # With a second cell: alone, an empty one would be quoted.
    csv.writer(cell, lineterminator="").writerow((line, ""))
    return cell.getvalue().removesuffix(",")


# The names of a run's metrics are few and come at every step.
_cell = functools.lru_cache(maxsize=1024)(_quoted)
