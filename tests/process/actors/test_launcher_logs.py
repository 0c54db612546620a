"""A program that prints without end: the disk does not fill, and the program is not held up."""

from __future__ import annotations

import os
from pathlib import Path

from fakes.launcher_process import LauncherProcess, launcher, wait_until
from fakes.trainer_scripts import HANGS, PREAMBLE
from trainerd.v1 import launcher_pb2

MOST = 1024 * 1024
WRITTEN = 200 * 1024 * 1024
TALKS = (
    PREAMBLE
    + f"""\
line = ('x' * 1015 + '\\n').encode()
written = number = 0
while written < {WRITTEN}:
    block = b''.join(b'%07d' % (number + each) + line for each in range(64))
    number += 64
    written += os.write(1, block)
say('done')
idle()
"""
)


def read(host: LauncherProcess, offset: int) -> launcher_pb2.ReadLogResponse:
    request = launcher_pb2.ReadLogRequest(run="r-1", incarnation=1, offset=offset)
    return host.stub.ReadLog(request, timeout=20.0)


def on_disk(path: Path) -> int:
    return os.stat(path).st_blocks * 512


def test_a_talkative_trainer_neither_fills_the_disk_nor_waits_for_anybody(tmp_path: Path) -> None:
    config = tmp_path / "launcher.toml"
    config.write_text(f"[logs]\ntrainer_bytes = {MOST}\nrun_bytes = {2 * MOST}\n")
    with launcher(TALKS, "--config", str(config)) as host:
        host.start_trainer()
        log = host.state / "runs" / "r-1" / "logs" / "1.log"
        # The program comes to its end without anybody having read from it.
        wait_until(lambda: read(host, -5).data == b"done\n", "the program's end", 60.0)
        wait_until(lambda: on_disk(log) <= MOST, "the log within its bound")
        end = log.stat().st_size
        assert end >= WRITTEN
        newest = read(host, -5)
        assert newest.next_offset == end
        # Whoever asks for the beginning gets the oldest there is, and is told where that lies.
        first = read(host, 0)
        assert 0 < end - first.offset <= MOST
        assert first.next_offset == first.offset + len(first.data)
        assert b"\0" not in first.data
        kill = launcher_pb2.KillTrainerRequest(run="r-1", incarnation=1)
        watch = host.watch()
        host.stub.KillTrainer(kill, timeout=20.0)
        assert watch.wait_exits(1)[0].exited.log_tail.endswith("done")


def test_the_stacks_of_a_live_trainer_are_told_and_it_goes_on() -> None:
    with launcher(HANGS) as host:
        pid = host.start_trainer()
        host.wait_log("ready")
        request = launcher_pb2.CollectStacksRequest(run="r-1")
        for _ in range(2):
            stacks = host.stub.CollectStacks(request, timeout=20.0).stacks
            assert "holds_the_lock" in stacks.python
            assert "reads_for_ever" in stacks.python
            assert stacks.threads.startswith(str(pid))
        assert Path(f"/proc/{pid}").exists()
