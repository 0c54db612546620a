"""Rules cross from one member of a gang to the others unchanged."""

from __future__ import annotations

import json

import pytest

from trainerd.actors.reports import Verdict
from trainerd.actors.rules import Rule, Rules
from trainerd.actors.rules_word import rules_as_json, rules_from_json
from trainerd.actors.spikes import Spike


@pytest.mark.parametrize(
    "rules",
    [
        Rules(),
        Rules(
            version=7,
            continue_on_error=True,
            spike=Spike(z=3.5, min_history=4, history=9),
            loss_spike=Rule(action=Verdict.ROLLBACK, limit=1, window_s=2.5, consecutive=3),
        ),
    ],
)
def test_rules_come_back_as_they_were(rules: Rules) -> None:
    assert rules_from_json(json.loads(json.dumps(rules_as_json(rules)))) == rules
