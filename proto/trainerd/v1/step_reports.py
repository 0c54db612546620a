"""Step reports that are not sent one by one: two of them in one."""

from __future__ import annotations

from trainerd.v1 import trainer_pb2

MAX_DURATIONS = 256
"""Durations of one report."""


def merge_step_reports(
    older: trainer_pb2.AttachRequest, newer: trainer_pb2.AttachRequest
) -> trainer_pb2.AttachRequest:
    """Both in one: newest values win, amounts add up, the newest 256 durations stay."""
    merged = trainer_pb2.AttachRequest()
    merged.CopyFrom(newer)
    report, before = merged.step_report, older.step_report
    durations = [*before.durations_s, *report.durations_s][-MAX_DURATIONS:]
    del report.durations_s[:]
    report.durations_s.extend(durations)
    report.examples += before.examples
    report.data_wait_s += before.data_wait_s
    return merged
