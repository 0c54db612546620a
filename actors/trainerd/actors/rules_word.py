"""Rules as JSON values, and back: what one member of a gang tells the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from trainerd.actors.reports import Verdict
from trainerd.actors.rules import Rule, Rules
from trainerd.actors.spikes import Spike


def rules_as_json(rules: Rules) -> dict[str, Any]:
    """Return JSON values."""
    values: dict[str, Any] = {}
    for field in fields(rules):
        match getattr(rules, field.name):
            case Rule() as rule:
                values[field.name] = {**asdict(rule), "action": rule.action.value}
            case Spike() as spike:
                values[field.name] = asdict(spike)
            case value:
                values[field.name] = value
    return values


def rules_from_json(values: Mapping[str, Any]) -> Rules:
    """Read what `rules_as_json` returned."""
    made: dict[str, Any] = {}
    for name, value in values.items():
        match value:
            case {"action": action}:
                made[name] = Rule(**{**value, "action": Verdict(action)})
            case dict():
                made[name] = Spike(**value)
            case _:
                made[name] = value
    return Rules(**made)
