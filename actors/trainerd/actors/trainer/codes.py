"""A trainer's exit codes: what the supervisor may conclude when no report arrived."""

FINISHED = 0
"""Completed, stopped or preempted."""
FAILED = 1
"""The decision was to fail."""
DEFECT = 70
"""An exception in trainerd itself; its traceback is in the log."""
DECISION_PENDING = 76
"""A fault needed a decision and none came; the next daemon decides."""
RESTART = 77
"""The decision was to start a new process."""
REFUSED = 78
"""This process must not train: the daemon refused the greeting (a past incarnation, a wrong token
or a strange protocol), or another process holds the run."""
