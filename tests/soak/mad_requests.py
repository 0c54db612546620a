"""Requests that nobody should send: random bytes, damaged messages, messages with mad values."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from trainerd.v1 import control_pb2, run_pb2
from unit.daemon.house import spec

DEEPEST = 5
LONG = 200_000
_SERVED = (control_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
METHODS: Sequence[MethodDescriptor] = [
    method
    for file in _SERVED
    for service in file.services_by_name.values()
    for method in service.methods
]
CONTROL = control_pb2.DESCRIPTOR.services_by_name["ControlService"].methods_by_name

_INTEGERS = (0, 1, -1, 2, 7, 100, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 10**9)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"), -1e-9)
_TEXTS = (
    *("", " ", "a", "-", "..", "/", "/tmp/../etc/passwd", "m:f", "os:system", "a" * 64, "A b"),
    *("\0", "\x1b[2J", "\u202e", "ﷺ", "😀", "' OR 1=1 --", "%s%n{0}", "\n" * 9, "NaN", "é" * 300),
)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One request: its path, its bytes, how long the client waits, what else it sends."""

    path: str
    data: bytes
    kind: str
    timeout_s: float
    streams: bool
    both: bool
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass
class Maker:
    """Draws attempts from a seed. `runs`: ids that the daemon knows."""

    drawn: random.Random
    runs: list[str] = field(default_factory=list)

    def attempt(self) -> Attempt:
        """The next one."""
        draw = self.drawn
        method = draw.choice(METHODS)
        if draw.random() < 0.15:
            method = CONTROL["SubmitRun"]
        kind = draw.choice(
            ("bytes", "mad", "mad", "mad", "damaged", "cut", "near", "near", "unknown", "long")
        )
        data = self._data(method, kind)
        path = f"/{method.containing_service.full_name}/{method.name}"
        if draw.random() < 0.01:
            path = draw.choice((f"{path}s", "/x/y", "/trainerd.v1.ControlService/", path.upper()))
        metadata: tuple[tuple[str, str], ...] = ()
        if draw.random() < 0.05:
            metadata = (("x-" + self._word(), "v" * draw.choice((0, 10, 3000, 12_000))),)
        return Attempt(
            path=path,
            data=data,
            kind=kind,
            timeout_s=draw.choice((0.001, 0.05, 0.5, 0.5, 1.0)),
            streams=method.server_streaming,
            both=method.client_streaming,
            metadata=metadata,
        )

    def _data(self, method: MethodDescriptor, kind: str) -> bytes:
        draw = self.drawn
        cls = GetMessageClass(method.input_type)
        match kind:
            case "bytes":
                return draw.randbytes(draw.choice((1, 2, 10, 100, 1000, 5000)))
            case "long":
                if draw.random() < 0.8:
                    return self._mad(cls(), 0).SerializeToString()
                return b"\x0a" + draw.randbytes(draw.choice((70_000, 1_100_000, 4_200_000)))
            case "near":
                return self._near(cls, method.name).SerializeToString()
            case "mad":
                return self._mad(cls(), 0).SerializeToString()
        whole = self._near(cls, method.name).SerializeToString() or draw.randbytes(5)
        match kind:
            case "cut":
                return whole[: draw.randrange(len(whole))]
            case "damaged":
                damaged = bytearray(whole)
                for _ in range(draw.choice((1, 2, 8))):
                    damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
                return bytes(damaged)
            case _:
                return whole + draw.randbytes(draw.choice((2, 7, 30)))

    def _near(self, cls: type[Any], name: str) -> Message:
        """A good request, but for a field or two."""
        draw = self.drawn
        message = cls()
        if name in ("SubmitRun", "CheckRun"):
            message.spec.CopyFrom(spec("fuzz", steps=draw.choice((1, 100, 2**31))))
            self._spoil(message.spec)
            if name == "SubmitRun":
                message.request_id = draw.choice(("", "", "same", self._word(), "x" * 129))
                message.skip_program_check = draw.random() < 0.9
                if draw.random() < 0.1 and self.runs:
                    message.resume_run = draw.choice(self.runs)
        elif "run" in cls.DESCRIPTOR.fields_by_name:
            message.run = draw.choice([*self.runs, "fuzz", "f", "nobody"])
            if "no_wait" in cls.DESCRIPTOR.fields_by_name:
                message.no_wait = draw.random() < 0.7
            if draw.random() < 0.3:
                self._mad(message, 2)
        return message  # type: ignore[no-any-return]

    def _spoil(self, wanted: run_pb2.RunSpec) -> None:
        for _ in range(self.drawn.choice((0, 0, 1, 2))):
            part = getattr(
                wanted, self.drawn.choice(("train", "trainer", "checkpoint", "policy", "inject"))
            )
            self._fill(part, self.drawn.choice(part.DESCRIPTOR.fields), DEEPEST - 2)

    def _mad(self, message: Any, depth: int) -> Any:
        """Fill some fields with values that a client of ours would never send."""
        for each in message.DESCRIPTOR.fields:
            if self.drawn.random() < (0.7 if depth == 0 else 0.4):
                self._fill(message, each, depth)
        return message

    def _fill(self, message: Any, each: FieldDescriptor, depth: int) -> None:
        draw = self.drawn
        if each.message_type is not None and each.message_type.GetOptions().map_entry:
            value = each.message_type.fields_by_name["value"]
            for _ in range(draw.choice((1, 3, 40))):
                key = self._text()
                if value.message_type is None:
                    getattr(message, each.name)[key] = self._scalar(value)
                elif depth < DEEPEST:
                    self._mad(getattr(message, each.name)[key], depth + 1)
            return
        if each.is_repeated:
            into = getattr(message, each.name)
            for _ in range(draw.choice((1, 2, 30))):
                if each.message_type is None:
                    into.append(self._scalar(each))
                elif depth < DEEPEST:
                    self._mad(into.add(), depth + 1)
        elif each.message_type is not None:
            if depth < DEEPEST:
                inner = getattr(message, each.name)
                inner.SetInParent()
                self._mad(inner, depth + 1)
        else:
            setattr(message, each.name, self._scalar(each))

    def _scalar(self, each: FieldDescriptor) -> object:
        draw = self.drawn
        kind = FieldDescriptor
        match each.cpp_type:
            case kind.CPPTYPE_STRING:
                return draw.randbytes(20) if each.type == kind.TYPE_BYTES else self._text()
            case kind.CPPTYPE_BOOL:
                return draw.random() < 0.5
            case kind.CPPTYPE_FLOAT | kind.CPPTYPE_DOUBLE:
                return draw.choice(_FLOATS)
            case kind.CPPTYPE_ENUM:
                return draw.choice((0, 1, 2, 3, 99, -1, 2**31 - 1))
            case kind.CPPTYPE_INT32:
                return max(-(2**31), min(2**31 - 1, draw.choice(_INTEGERS)))
            case kind.CPPTYPE_UINT32:
                return min(2**32 - 1, abs(draw.choice(_INTEGERS)))
            case kind.CPPTYPE_UINT64:
                return abs(draw.choice(_INTEGERS))
            case _:
                return draw.choice(_INTEGERS)

    def _text(self) -> str:
        draw = self.drawn
        if draw.random() < 0.01:
            return "x" * LONG
        if draw.random() < 0.2 and self.runs:
            return draw.choice(self.runs)
        return draw.choice(_TEXTS) if draw.random() < 0.7 else self._word()

    def _word(self) -> str:
        letters = string.ascii_lowercase + string.digits
        return "".join(self.drawn.choices(letters, k=self.drawn.randint(1, 12)))


def raw_junk(drawn: random.Random) -> bytes:
    """Bytes for a bare connection: noise, parts of HTTP/2, mad frames, TLS, HTTP/1."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\0\0\0\x04\0\0\0\0\0"
    match drawn.randrange(7):
        case 0:
            return drawn.randbytes(drawn.choice((1, 100, 20_000)))
        case 1:
            return preface[: drawn.randrange(len(preface))]
        case 2:
            return preface + settings + drawn.randbytes(200)
        case 3:
            return b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
        case 4:
            return b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + drawn.randbytes(300)
        case 5:
            return b""
        case _:
            frames = bytearray(preface + settings)
            for _ in range(drawn.randint(1, 20)):
                length = drawn.choice((0, 1, 8, 100, 16_384))
                frames += length.to_bytes(3, "big") + bytes(
                    [drawn.randrange(12), drawn.randrange(256)]
                )
                frames += drawn.choice((0, 1, 3, 2**31 - 1)).to_bytes(4, "big")
                frames += drawn.randbytes(length)
            return bytes(frames)
