"""What is dealt with alone: how often, under which version, and when masking gives way to skips."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trainerd.actors.delegation import Delegation
from trainerd.actors.reports import Fault, FaultClass, Verdict
from trainerd.actors.rules import Rule, Rulebook, Rules

SLOT = Fault(fault_class=FaultClass.NON_FINITE_MICROBATCH, message="slot 1", batch=4)
STEP = Fault(fault_class=FaultClass.NON_FINITE_STEP, message="nan", batch=4)


def rules(**changes: Any) -> Rules:
    return Rules(
        **{
            "version": 2,
            "non_finite_microbatch": Rule(action=Verdict.MASK, limit=1, window_s=100.0),
            "non_finite_step": Rule(action=Verdict.SKIP, limit=1, window_s=100.0),
            **changes,
        }
    )


def test_a_fault_within_its_allowance_is_dealt_with_and_says_how_and_by_which_rules():
    incident = Delegation(rules()).masked(SLOT, 0.0)
    assert not incident.why_asked
    assert (incident.fault.delegated, incident.fault.policy_version) == (Verdict.MASK, 2)


def test_a_spent_allowance_asks_with_the_numbers():
    delegation = Delegation(rules())
    delegation.skipped(STEP, 0.0)
    incident = delegation.skipped(STEP, 1.0)
    assert incident.why_asked == "2 in 100 s, limit 1"
    assert incident.fault.delegated is Verdict.SKIP


def test_the_window_slides():
    delegation = Delegation(rules())
    delegation.skipped(STEP, 0.0)
    assert not delegation.skipped(STEP, 101.0).why_asked


def test_told_to_skip_on_a_spent_mask_it_skips_whole_steps_for_a_window():
    delegation = Delegation(rules())
    asked = [delegation.masked(SLOT, now) for now in (0.0, 1.0)][-1]
    assert asked.why_asked
    assert delegation.masks(1.0)
    delegation.decided(asked.fault, Verdict.SKIP, 1.0)
    assert [delegation.masks(now) for now in (1.0, 100.9, 101.0)] == [False, False, True]


def test_skips_in_place_of_masks_have_the_same_allowance_anew():
    delegation = Delegation(rules())
    delegation.decided(SLOT, Verdict.SKIP, 0.0)
    first, second = (delegation.skipped(SLOT, now) for now in (1.0, 2.0))
    assert (first.fault.delegated, first.why_asked) == (Verdict.SKIP, "")
    # So that whoever is asked knows that skipping is what did not help.
    assert second.fault.delegated is Verdict.SKIP
    assert second.why_asked


def test_any_other_verdict_goes_on_masking():
    delegation = Delegation(rules())
    delegation.decided(SLOT, Verdict.SKIP, 0.0)
    delegation.decided(SLOT, Verdict.CONTINUE, 1.0)
    assert delegation.masks(1.0)


def test_a_skip_of_another_class_leaves_masking_alone():
    delegation = Delegation(rules())
    delegation.decided(STEP, Verdict.SKIP, 0.0)
    assert delegation.masks(0.0)


def test_going_back_begins_anew():
    delegation = Delegation(rules())
    delegation.skipped(STEP, 0.0)
    delegation.decided(SLOT, Verdict.SKIP, 0.0)
    delegation.begin_anew()
    assert delegation.masks(0.0)
    assert not delegation.skipped(STEP, 1.0).why_asked


def test_other_rules_keep_what_was_spent():
    delegation = Delegation(rules())
    delegation.skipped(STEP, 0.0)
    wider = Rule(action=Verdict.SKIP, limit=2, window_s=100.0)
    delegation.adopt(rules(version=3, non_finite_step=wider))
    second, third = (delegation.skipped(STEP, now) for now in (1.0, 2.0))
    assert (second.why_asked, second.fault.policy_version) == ("", 3)
    assert third.why_asked == "3 in 100 s, limit 2"


def test_other_rules_may_ask_at_once_or_skip_where_they_masked():
    delegation = Delegation(rules())
    fail = Rule(action=Verdict.FAIL, limit=9, window_s=100.0)
    skip = Rule(action=Verdict.SKIP, limit=9, window_s=100.0)
    delegation.adopt(rules(non_finite_step=fail, non_finite_microbatch=skip))
    asked = delegation.skipped(STEP, 0.0)
    assert asked.why_asked
    assert asked.fault.delegated is None
    assert not delegation.masks(0.0)


def test_a_rulebook_knows_what_is_newer():
    book = Rulebook(version=2)
    book.change(rules(version=2))
    assert book.newest is None
    newer = rules(version=4)
    book.change(newer)
    book.change(replace(newer, version=3))
    assert book.newest is newer
