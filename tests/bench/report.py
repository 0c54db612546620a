"""What was measured, as Markdown for people and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bench.figures import LEAST_PAIRS, Figure, Verdict

HEADER = "| what | against | median | 95 % interval | pairs | must be | verdict |"
RULE = "|---|---|---|---|---|---|---|"


def markdown(
    figures: Sequence[Figure],
    machine: Mapping[str, str],
    *,
    title: str = "Training",
    least: int = LEAST_PAIRS,
) -> str:
    """Return the table, and under it the machine. Fewer than `least` pairs are no result."""
    lines = [f"# {title}: measured", "", HEADER, RULE]
    lines += [_row(figure) for figure in figures]
    if any(1 < figure.pairs < least for figure in figures):
        lines += ["", f"Rows of fewer than {least} pairs show that it works; they are no result."]
    lines += [
        "",
        "Pairs are measured in turns in one run (A B A B …); the figure is the median over pairs "
        "and its bootstrap interval. A figure is missed where the whole interval lies beyond the "
        "bound. Ratios of rates are ours to theirs, ratios of times too.",
        "",
        "; ".join(f"{name}: {value}" for name, value in machine.items()),
        "",
    ]
    return "\n".join(lines)


def as_json(figures: Sequence[Figure], machine: Mapping[str, str]) -> str:
    """Return the same as JSON."""
    return json.dumps(
        {"machine": dict(machine), "figures": [_values(figure) for figure in figures]},
        indent=2,
        ensure_ascii=False,
    )


def missed(figures: Sequence[Figure]) -> list[Figure]:
    """The figures that do not reach their bound."""
    return [figure for figure in figures if figure.verdict is Verdict.MISSED]


def _row(figure: Figure) -> str:
    measured = figure.pairs > 1
    cells = (
        figure.what,
        figure.against or "–",
        _number(figure.median, figure.unit),
        f"{_number(figure.low, '')} – {_number(figure.high, '')}" if measured else "–",
        str(figure.pairs) if measured else "–",
        str(figure.bound) if figure.bound else "–",
        figure.verdict.value,
    )
    return f"| {' | '.join(cells)} |"


def _number(value: float, unit: str) -> str:
    shown = f"{value:.3f}" if abs(value) < 10 and value != int(value) else f"{value:.0f}"
    return f"{shown} µs" if unit == "µs" else shown


def _values(figure: Figure) -> dict[str, Any]:
    return {
        "what": figure.what,
        "against": figure.against,
        "unit": figure.unit,
        "median": figure.median,
        "low": figure.low,
        "high": figure.high,
        "pairs": figure.pairs,
        "bound": str(figure.bound) if figure.bound else None,
        "verdict": figure.verdict.value,
    }
