"""One thing that is wrong with what a client sent, by key path."""

from __future__ import annotations

from trainerd.v1 import control_pb2


def problem(field: str, message: str, suggestion: str = "") -> control_pb2.Problem:
    """The problem of a field; `message` goes on where the field's name ends."""
    return control_pb2.Problem(field=field, message=f"{field} {message}", suggestion=suggestion)
