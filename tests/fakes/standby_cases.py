"""What befalls a launcher's standby, case by case: `python -m fakes.standby_cases CASE` prints
what came of it as JSON. In a process of its own, as a launcher is: a subreaper that reaps all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from trainerd.actors.launcher.processes import Children
from trainerd.actors.launcher.standby_key import Wanted
from trainerd.actors.launcher.standbys import Standbys

DEADLINE_S = 60.0


@dataclass
class Stage:
    folder: Path
    children: Children
    standbys: Standbys
    wanted: Wanted
    told: list[str] = field(default_factory=list)

    def want(self, wanted: Wanted | None = None, *, at_once: bool = False) -> None:
        self.standbys.want(wanted or self.wanted, self.folder / "standby.log", at_once=at_once)

    async def ready(self) -> int:
        await until(lambda: self.standbys.ready)
        return self.standbys.ready.child.pid

    async def fork(self, wanted: Wanted | None = None, incarnation: int = 1):
        """The exit code of what was forked, or None, and what it wrote."""
        log_path = self.folder / f"{incarnation}.log"
        assignment = os.memfd_create("assignment", os.MFD_CLOEXEC)
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        log = os.open(log_path, flags)
        lock = os.open(self.folder / "devices.lock", flags)
        try:
            child = await self.standbys.fork(
                wanted or self.wanted, incarnation, assignment=assignment, log=log, lock=lock
            )
        finally:
            for descriptor in (assignment, log, lock):
                os.close(descriptor)
        if child is None:
            return None
        async with asyncio.timeout(DEADLINE_S):
            ended = await child.ended
        return ended.exit_code, log_path.read_text()

    def lost(self) -> bool:
        """Whether a standby was started, and is gone."""
        return (self.folder / "standby.log").exists() and not len(self.children)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def stage(odd: str, **settings: object) -> AsyncIterator[Stage]:
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="ts-"))
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -m fakes.odd_standby "$@"\n')
    python.chmod(stat.S_IRWXU)
    variables = {"ODD": odd, "PYTHONPATH": os.pathsep.join(sys.path), "REASON": str(folder / "r")}
    variables |= settings.pop("variables", {})
    wanted = Wanted(
        run="r-1",
        python=str(python),
        variables=tuple(sorted(variables.items())),
        directory=str(folder),
        path=(),
        module="m",
    )
    children = Children()
    children.watch()
    told: list[str] = []
    standbys = Standbys(
        children,
        unfit=lambda _, reason: told.append(reason),
        **{"quiet_s": 0.0, "backoff_s": 0.01, **settings},
    )
    made = Stage(folder, children, standbys, wanted, told)
    try:
        yield made
    finally:
        await standbys.close()
        await until(lambda: not len(children))
        shutil.rmtree(folder)


async def forks():
    async with stage("fine") as made:
        made.want()
        first = await made.ready()
        results = [await made.fork(incarnation=n) for n in (1, 2, 3)]
        return {"results": results, "same": await made.ready() == first}


async def other_key():
    async with stage("fine") as made:
        made.want()
        await made.ready()
        others = [
            replace(made.wanted, module="other"),
            replace(made.wanted, run="r-2"),
            replace(made.wanted, directory="/"),
            replace(made.wanted, path=("/x",)),
            replace(made.wanted, python="/bin/true"),
            replace(made.wanted, variables=(*made.wanted.variables, ("A", "1"))),
        ]
        return {"others": [await made.fork(other) for other in others]}


async def moves_to_another_run():
    async with stage("fine") as made:
        made.want()
        first = made.standbys.ready or await made.ready()
        other = replace(made.wanted, run="r-2")
        made.want(other)
        second = await made.ready()
        await until(lambda: len(made.children) == 1)
        return {
            "replaced": first != second,
            "old": await made.fork(),
            "new": await made.fork(other),
        }


async def lost(odd: str, **settings):
    async with stage(odd, **settings) as made:
        made.want()
        first = await made.ready()
        answer = await made.fork()
        await until(lambda: made.standbys.ready and made.standbys.ready.child.pid != first)
        log = (made.folder / "1.log").read_text()
        return {"answer": answer, "log": log}


async def deaf():
    return await lost("deaf", fork_s=0.1)


async def called_off():
    async with stage("late", fork_s=30.0, variables={"LATE_S": "2"}) as made:
        made.want()
        first = await made.ready()
        asked = asyncio.create_task(made.fork())
        await until(lambda: "forked" in (made.folder / "standby.log").read_text())
        asked.cancel()
        await asyncio.wait([asked])
        await until(lambda: made.standbys.ready and made.standbys.ready.child.pid != first)
        answer = await made.fork(incarnation=2)
        await until((made.folder / "1.log").read_text)
        return {
            "cancelled": asked.cancelled(),
            "log": (made.folder / "1.log").read_text(),
            "next": answer,
        }


async def late():
    async with stage("late", fork_s=0.1, variables={"LATE_S": "30"}) as made:
        made.want()
        await made.ready()
        answer = await made.fork()
        log = made.folder / "1.log"
        await until(log.read_text)
        return {"answer": answer, "log": log.read_text()}


async def nonsense():
    return await lost("nonsense")


async def stranger():
    return await lost("stranger")


async def refuses():
    return await lost("refuses")


async def grows():
    return await lost("grows")


async def killed():
    async with stage("fine") as made:
        made.want()
        first = await made.ready()
        os.kill(first, signal.SIGKILL)
        await until(lambda: made.standbys.ready and made.standbys.ready.child.pid != first)
        return {"answer": await made.fork()}


async def dies():
    async with stage("dies", backoff_s=0.0001) as made:
        made.want()
        await until(lambda: made.standbys.given_up)
        made.want()
        return {"preparing": made.standbys.preparing}


async def unfit():
    async with stage("unfit") as made:
        made.want()
        await until(lambda: made.told)
        made.want()
        made.want()
        idle = made.standbys.ready is None and not made.standbys.preparing
        (made.folder / "r").write_text("mended")
        made.want()
        mended = made.standbys.preparing
        return {"told": made.told, "idle": idle, "mended": mended}


async def large():
    async with stage("large") as made:
        made.want()
        await until(lambda: made.told)
        return {"told": made.told, "ready": made.standbys.ready is not None}


async def silent():
    async with stage("silent", prepare_s=0.2, backoff_s=60.0) as made:
        made.want()
        await until(made.lost)
        return {"ready": made.standbys.ready is not None}


async def idles():
    async with stage("fine", idle_s=0.05) as made:
        made.want()
        await made.ready()
        made.standbys.rest()
        await until(lambda: not len(made.children))
        return {"ready": made.standbys.ready is not None, "answer": await made.fork()}


async def before_a_trainer():
    said = {}
    for odd in ("fine", "unfit", "dies"):
        # Nobody starts a trainer: it would wait much longer if there were one.
        async with stage(odd, quiet_s=2 * DEADLINE_S, backoff_s=DEADLINE_S) as made:
            made.want(at_once=True)
            said[odd] = await made.standbys.missing(made.wanted)
            other = replace(made.wanted, run="r-2")
            said[f"{odd}, another run"] = await made.standbys.missing(other)
    async with stage("fine", enabled=False) as made:
        made.want(at_once=True)
        said["off"] = await made.standbys.missing(made.wanted)
    return said


async def forgotten():
    async with stage("fine") as made:
        made.want()
        await made.ready()
        made.standbys.forget("r-2")
        kept = made.standbys.ready is not None
        made.standbys.forget("r-1")
        await until(lambda: not len(made.children))
        return {"kept": kept, "answer": await made.fork()}


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.stderr))
    print(json.dumps(asyncio.run(globals()[sys.argv[1]]())))
