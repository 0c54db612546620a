"""Values of a run's environment variables go in through the control service and never come out."""

from __future__ import annotations

from google.protobuf.message import Message

from trainerd.v1 import event_pb2, run_pb2

HIDDEN = "***"
_CONTROL = "/trainerd.v1.ControlService/"


def hide_values(method: str, response: object) -> None:
    """Hide them in a response of the control service: in its runs, in its events; it is changed."""
    if not (method.startswith(_CONTROL) and isinstance(response, Message)):
        return
    for field, value in response.ListFields():
        if field.message_type is None:
            continue
        for each in value if field.is_repeated else (value,):
            match each:
                case run_pb2.Run():
                    _hide(each.spec)
                case event_pb2.Event() if each.HasField("run_submitted"):
                    _hide(each.run_submitted.spec)
                case _:
                    pass


def _hide(spec: run_pb2.RunSpec) -> None:
    for name in spec.trainer.env:
        spec.trainer.env[name] = HIDDEN
