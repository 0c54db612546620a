"""Reading a run's log part by part, and waiting for more of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trainerd.clients.client import Client
from trainerd.clients.errors import ApiError, NotFound, Unreachable
from trainerd.clients.following import Patience
from trainerd.clients.report import ENDED
from trainerd.v1 import control_pb2

_SHORTEST_WAIT_S = 0.1
_LONGEST_WAIT_S = 1.0


class LogReader:
    """The log of one incarnation or, when it follows the newest one, of all that come after."""

    def __init__(
        self,
        client: Client,
        run: str,
        *,
        incarnation: int,
        follow: bool,
        patience: Patience,
        sleep: Callable[[float], None],
        host: str = "",
    ) -> None:
        """`incarnation` 0: the newest. `follow`: wait for more until no more can come.

        While it follows it outlives the daemon, as long as `patience` does.
        """
        self._client = client
        self._run = run
        self._incarnation = incarnation
        self._newer_too = incarnation == 0
        self._follow = follow
        self._host = host
        self._patience = patience
        self._sleep = sleep

    def parts(self) -> Iterator[control_pb2.ReadRunLogResponse]:
        """Parts that are not empty, in order. Raises `NotFound` for an unknown run."""
        offset, wait_s, last_look = 0, _SHORTEST_WAIT_S, not self._follow
        while True:
            try:
                response = self._read(offset)
                newest, ended = (0, True)
                if self._follow and not response.data:
                    newest, ended = self._situation()
            except Unreachable as error:
                if not self._follow:
                    raise
                self._patience.lost(error)
                continue
            self._patience.found()
            if response.data:
                if response.next_offset <= offset:
                    raise ApiError(f"the log's offset must rise, got {response.next_offset}")
                self._incarnation = response.incarnation
                offset, wait_s = response.next_offset, _SHORTEST_WAIT_S
                yield response
                continue
            if self._newer_too and self._incarnation and newest > self._incarnation and last_look:
                self._incarnation += 1
                offset, last_look = 0, False
            elif last_look:
                return
            elif ended or newest > self._incarnation > 0:
                # It may have written between our reading and its end: look once more.
                last_look = True
            else:
                self._sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _read(self, offset: int) -> control_pb2.ReadRunLogResponse:
        try:
            return self._client.read_run_log(
                self._run, incarnation=self._incarnation, offset=offset, host=self._host
            )
        except NotFound:
            if not self._follow:
                raise
            # A trainer that has not started has no log; a run that does not exist raises here.
            self._client.get_run(self._run)
            return control_pb2.ReadRunLogResponse()

    def _situation(self) -> tuple[int, bool]:
        run = self._client.get_run(self._run).run
        return run.incarnation, run.state in ENDED
