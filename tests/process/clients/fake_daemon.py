"""A stand-in for `trainerd serve --private`: a fake control service that plays one scenario.

Usage: fake_daemon.py SCENARIO TRANSCRIPT --ready-fd N [--address A]. What it saw goes to the
transcript, a line each; its socket lies beside that, for it may be killed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from trainerd.v1 import control_pb2 as api
from unit.clients.fake_control import FakeControl, a_run, completed, serving


class Scenario:
    def __init__(self, name: str, transcript: Path) -> None:
        self.name = name
        self.transcript = transcript
        self.fake = FakeControl()
        self.fake.answers |= {
            "SubmitRun": self.submit,
            "WatchRun": self.watch,
            "StopRun": self.stop,
        }
        self.stops: list[bool] = []

    def log(self, text: str) -> None:
        with self.transcript.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")

    def submit(self, request: Any, context: Any) -> api.SubmitRunResponse:
        self.log(f"submitted {request.spec.name}")
        if self.name == "interrupted at submit":
            os.kill(os.getppid(), signal.SIGINT)
            self.fake.closing.wait(30)
        return api.SubmitRunResponse(run=a_run("queued"))

    def stop(self, request: Any, context: Any) -> api.StopRunResponse:
        self.log(f"stop no_checkpoint={request.no_checkpoint} no_wait={request.no_wait}")
        self.stops.append(request.no_checkpoint)
        signals = {"interrupted twice": 2, "interrupted thrice": 3}.get(self.name, 1)
        if len(self.stops) < signals:
            os.kill(os.getppid(), signal.SIGINT)
        return api.StopRunResponse(run=a_run("stopping"))

    def watch(self, request: Any, context: Any) -> Iterator[api.WatchRunResponse]:
        yield api.WatchRunResponse(run=a_run())
        if self.name == "completed":
            yield api.WatchRunResponse(run=completed())
            return
        if self.name == "dies at work":
            sys.stderr.write("the disk is on fire\n")
            sys.stderr.flush()
            os._exit(3)
        terminated = self.name == "terminated"
        os.kill(os.getppid(), signal.SIGTERM if terminated else signal.SIGINT)
        wanted = {"interrupted twice": True, "interrupted thrice": None}.get(self.name, False)
        while wanted not in self.stops and not self.fake.closing.wait(0.01):
            pass
        if wanted in self.stops:
            yield api.WatchRunResponse(run=a_run("stopped"))
        self.fake.closing.wait(30)

    def play(self, ready_fd: int) -> None:
        if self.name == "dies at birth":
            sys.stderr.write("no such state directory\n")
            sys.exit(3)
        if self.name == "never ready":
            time.sleep(30)
        with serving(self.fake, self.transcript.parent):
            ready = "HELLO" if self.name == "no handshake" else "READY"
            os.write(ready_fd, f"{ready} {self.fake.address} 127.0.0.1:9\n".encode())
            os.close(ready_fd)
            self.log("serves")
            sys.stdin.buffer.read()
            self.log("lifeline cut")
            if self.name == "does not end":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(30)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario")
    parser.add_argument("transcript", type=Path)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--address")
    args = parser.parse_args()
    scenario = Scenario(args.scenario, args.transcript)
    scenario.log(f"started address={args.address} session={os.getsid(0) == os.getpid()}")
    scenario.play(args.ready_fd)
    scenario.log("ended")


if __name__ == "__main__":
    main()
