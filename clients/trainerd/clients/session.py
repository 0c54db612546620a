"""What every command of `trainerctl` shares: where the daemon is, and how to speak to people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from google.protobuf.json_format import MessageToDict

from trainerd.clients.client import Client

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from trainerd.clients.address import Tls


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One invocation of `trainerctl`.

    `address` is None where the user named none; `timeout_s` likewise. `live` says whether
    `out` is a terminal that may be redrawn, `progress` the same of `err`. `daemon_command` starts a
    private daemon.
    """

    address: str | None
    timeout_s: float | None
    tls: Tls | None
    as_json: bool
    live: bool
    out: TextIO
    err: TextIO
    daemon_command: tuple[str, ...]
    progress: bool = False

    def client(self, address: str | None = None) -> Client:
        """A client of the daemon, or of another one at `address`; not connected yet."""
        where = address or self.address
        tls = None if address else self.tls
        if self.timeout_s is None:
            return Client(where, tls=tls)
        return Client(where, self.timeout_s, tls, work_timeout_s=self.timeout_s)

    def say(self, text: str) -> None:
        """Text for people on standard output; nothing with --json."""
        if not self.as_json:
            print(text, file=self.out)

    def emit(self, message: Message, *, streamed: bool = False) -> None:
        """A response as JSON on standard output, with --json only; one line if streamed."""
        if self.as_json:
            print(json_text(message, streamed=streamed), file=self.out, flush=streamed)

    def note(self, text: str) -> None:
        """A remark on standard error."""
        if self.as_json:
            print(json.dumps({"note": {"message": text}}, ensure_ascii=False), file=self.err)
        else:
            print(f"trainerctl: {text}", file=self.err)
        self.err.flush()


def json_text(message: Message, *, streamed: bool) -> str:
    """proto3 JSON: lowerCamelCase, 64-bit integers as strings, unset fields at their defaults."""
    document = MessageToDict(message, always_print_fields_with_no_presence=True)
    return json.dumps(document, ensure_ascii=False, indent=None if streamed else 2)
