"""Requests that change a run: journalled, refused with the supervisor's reason, waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from trainerd.daemon.refusals import refuse
from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.supervision.events import RequestEvent, RunState, RunSubmitted
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.watchers import Watcher, Watchers
from trainerd.v1 import event_pb2
from trainerd.v1.mailbox import MailboxOverflow

_Context = grpc.aio.ServicerContext[Any, Any]


class Changes:
    """Posts a client's requests and waits for what they lead to; ends the call if that is vain."""

    def __init__(self, runtime: Runtime, watchers: Watchers) -> None:
        self._runtime = runtime
        self._watchers = watchers

    async def request(self, context: _Context, event: RequestEvent) -> None:
        """Have a request journalled and acted on; refuse what the supervisor ignores."""
        ignored = await self.post(context, event)
        if ignored is not None:
            await refuse(
                context, grpc.StatusCode.FAILED_PRECONDITION, "REFUSED_IN_THIS_STATE", ignored
            )

    async def post(self, context: _Context, event: RequestEvent | RunSubmitted) -> str | None:
        """Have an event journalled; return why it was ignored, or None."""
        try:
            return (await self._runtime.post(event)).ignored
        except MailboxOverflow as error:
            await refuse(
                context, grpc.StatusCode.RESOURCE_EXHAUSTED, "MAILBOX_FULL", f"{error}; try again"
            )
        except JournalFullError as error:
            await refuse(context, grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNWRITABLE", str(error))

    async def until(self, context: _Context, run: str, done: Callable[[Run | None], bool]) -> None:
        """Wait until the run is so; the caller's deadline ends the wait."""
        with self._watchers.watch(run) as watcher:
            while not done(self._runtime.state.runs.get(run)):
                if context.done():
                    return
                await watcher.wait(1.0)
                watcher.take()

    async def removed(
        self, context: _Context, run: str, stuck: Callable[[], bool], timeout_s: float
    ) -> bool:
        """Wait until a deleted run's files are removed; False: not in time, or they are `stuck`."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        with self._watchers.watch(run) as watcher:
            while run in self._runtime.state.removals:
                if context.done() or stuck() or loop.time() >= until_s:
                    return False
                await watcher.wait(0.1)
                watcher.take()
        return True

    async def saved(
        self, context: _Context, run: str, request_id: str, watcher: Watcher
    ) -> event_pb2.CheckpointSaved:
        """Wait for the checkpoint that answers this request; refuse if there will be none.

        `watcher` was there before the request.
        """
        while True:
            await watcher.wait(1.0)
            events, _ = watcher.take()
            for event in events:
                if request_id in event.checkpoint_saved.request_ids:
                    return event.checkpoint_saved
                if request_id in event.fault_raised.request_ids:
                    fault = event.fault_raised.fault
                    await refuse(
                        context,
                        grpc.StatusCode.ABORTED,
                        "CHECKPOINT_FAILED",
                        f"the checkpoint was not saved: {fault.message}",
                    )
            now = self._runtime.state.runs.get(run)
            if now is None or request_id not in now.saves:
                await refuse(
                    context,
                    grpc.StatusCode.ABORTED,
                    "CHECKPOINT_LOST",
                    f"the trainer of run {run} ended before it could save",
                )

    async def reach(
        self,
        context: _Context,
        run_id: str,
        states: frozenset[RunState],
        overtaken: Callable[[Run], bool] = lambda _: False,
        *,
        beyond: int = 0,
    ) -> Run:
        """Wait until the run is in one of these states; refuse if it is turned elsewhere."""

        def there(run: Run) -> bool:
            return run.state in states and run.incarnation > beyond

        def over(run: Run | None) -> bool:
            if run is None or run.terminal or run.stopping:
                return True
            return there(run) or overtaken(run)

        await self.until(context, run_id, over)
        run = self._runtime.state.runs.get(run_id)
        if run is None or not there(run):
            aim = " or ".join(sorted(state.value for state in states))
            story = f"is {run.state.value}: {run.reason}" if run else "is deleted"
            await refuse(
                context,
                grpc.StatusCode.ABORTED,
                "OVERTAKEN",
                f"run {run_id} did not become {aim}, it {story}",
            )
        return run
