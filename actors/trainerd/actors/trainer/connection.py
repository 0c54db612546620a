"""One attempt of a trainer to talk to its daemon: from the greeting to the end of the stream."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable

import grpc

from trainerd.actors.trainer.handover import Handover
from trainerd.v1 import protocol, trainer_pb2, trainer_pb2_grpc

TAKE_TIMEOUT_S = 5.0
"""A message that gRPC has not taken by then meets a daemon that does not read."""

CLOSE_TIMEOUT_S = 5.0

_REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.FAILED_PRECONDITION)


class Ending(enum.Enum):
    """How a connection ended."""

    LOST = "lost"
    """The daemon is not there, or went: try again."""
    REFUSED = "refused"
    """The daemon will never have this trainer: a past incarnation, or a stranger."""


class Connection:
    """A stream to the daemon. A thread of its own hears; the link's thread speaks."""

    def __init__(self, address: str, hear: Callable[[trainer_pb2.AttachResponse], None]) -> None:
        self._hear = hear
        self._outgoing: Handover[trainer_pb2.AttachRequest] = Handover()
        self._greeted = threading.Event()
        self._over = threading.Event()
        self._welcome: trainer_pb2.TrainerWelcome | None = None
        self.reason = ""
        self.ending = Ending.LOST
        self._channel = grpc.insecure_channel(address, options=protocol.CHANNEL_OPTIONS)
        stub = trainer_pb2_grpc.TrainerServiceStub(self._channel)
        self._call = stub.Attach(self._outgoing)
        self._receiver = threading.Thread(target=self._receive, name="link-receiver", daemon=True)
        self._receiver.start()

    @property
    def over(self) -> bool:
        """Whether the stream has ended."""
        return self._over.is_set()

    def greet(
        self, hello: trainer_pb2.AttachRequest, timeout_s: float
    ) -> trainer_pb2.TrainerWelcome | None:
        """Say hello and wait for the welcome; None: it did not come, `ending` says why."""
        self.say(hello)
        if not self._greeted.wait(timeout_s):
            self.reason = f"no welcome in {timeout_s:g} s"
        return self._welcome

    def say(self, message: trainer_pb2.AttachRequest) -> bool:
        """Send a message; False: the daemon does not take it, the connection is lost."""
        return not self.over and self._outgoing.put(message, TAKE_TIMEOUT_S)

    def cancel(self) -> None:
        """End the stream; whoever waits for it is woken."""
        self._outgoing.close()
        self._call.cancel()

    def close(self) -> None:
        """End the stream and wait until its threads are gone."""
        self.cancel()
        self._receiver.join(CLOSE_TIMEOUT_S)
        self._channel.close()

    def _receive(self) -> None:
        try:
            for message in self._call:
                if self._welcome is not None:
                    self._hear(message)
                elif not self._welcomed(message):
                    break
            else:
                self.reason = "the daemon ended the stream"
        except grpc.RpcError as error:
            self.reason = f"{error.code().name}: {error.details()}"
            if self._welcome is None and error.code() in _REFUSALS:
                self.ending = Ending.REFUSED
        finally:
            self._over.set()
            self._outgoing.close()
            self._greeted.set()

    def _welcomed(self, message: trainer_pb2.AttachResponse) -> bool:
        if message.WhichOneof("payload") != "welcome":
            self.reason = f"expected a welcome, got {message.WhichOneof('payload')}"
            return False
        refusal = protocol.refusal(message.welcome.protocol, who="daemon")
        if refusal is not None:
            self.reason, self.ending = refusal, Ending.REFUSED
            return False
        self._welcome = message.welcome
        self._greeted.set()
        return True
