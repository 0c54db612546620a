"""Paths with fields in them, such as `runs/{epoch:03d}-{val_loss:.3f}`."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_COUNTS = ("epoch", "step")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_/-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Text, and then a field; the last part may have none."""

    text: str
    field: str = ""
    spec: str = ""


class PathTemplate:
    """A path whose fields are `epoch`, `step`, `learning_rate` and metrics, in any number.

    A field is `{name}` or `{name:spec}` with a format specification of Python's for an integer
    (`epoch`, `step`) or a float (all others); `{{` and `}}` are braces. Everything else that
    `str.format` can do — positions, attributes, items, conversions, nesting — is refused here,
    with ValueError, because it can only fail later.
    """

    def __init__(self, template: str) -> None:
        if not isinstance(template, str) or not template.strip() or "\0" in template:
            raise ValueError(f"path_template must be a path, got {template!r}")
        self._template = template
        self._parts = _parse(template)

    def __str__(self) -> str:
        return self._template

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics it needs, each once, in order of appearance."""
        fields = dict.fromkeys(part.field for part in self._parts if part.field)
        return tuple(name for name in fields if name not in (*_COUNTS, "learning_rate"))

    def fill(
        self, *, epoch: int, step: int, learning_rate: float, metrics: Mapping[str, float]
    ) -> Path:
        """Return the path. Raises KeyError with the name of a metric that is not there."""
        values: dict[str, float] = {
            **metrics,
            "epoch": epoch,
            "step": step,
            "learning_rate": learning_rate,
        }
        return Path(
            "".join(
                part.text + (format(values[part.field], part.spec) if part.field else "")
                for part in self._parts
            )
        )


def _parse(template: str) -> tuple[_Part, ...]:
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise _bad(template, str(error)) from error
    parts: list[_Part] = []
    for text, field, spec, conversion in parsed:
        if field is None:
            parts.append(_Part(text=text))
            continue
        _check(template, field, spec or "", conversion)
        parts.append(_Part(text=text, field=field, spec=spec or ""))
    return tuple(parts)


def _check(template: str, field: str, spec: str, conversion: str | None) -> None:
    shown = f"{{{field}}}"
    if not field or field.isdecimal():
        raise _bad(template, f"{shown} is a position, and there are only names")
    if "." in field or "[" in field:
        raise _bad(template, f"{shown} reaches into a value, and there are only numbers")
    if not _NAME.fullmatch(field):
        raise _bad(template, f"{shown} is not the name of a metric")
    if conversion is not None:
        raise _bad(template, f"{shown} has the conversion !{conversion}")
    if "{" in spec or "/" in spec or "\0" in spec:
        raise _bad(template, f'{shown} has the format "{spec}", which is not one of a number')
    try:
        format(1 if field in _COUNTS else 1.0, spec)
    except ValueError as error:
        kind = "an integer" if field in _COUNTS else "a float"
        raise _bad(template, f'{shown} has the format "{spec}", not one of {kind}') from error


def _bad(template: str, why: str) -> ValueError:
    return ValueError(
        f'path_template "{template}" cannot be filled: {why}; '
        "write {epoch}, {step}, {learning_rate} or a metric such as {val_loss:.3f}"
    )
