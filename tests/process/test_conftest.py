"""The rules that conftest.py holds every test to, seen in pytest runs of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import leaks

HERE = Path(leaks.__file__).parent


ALONE = ()
IN_A_WORKER = ("-p", "xdist", "--numprocesses=1", "--dist=loadfile")
EITHER_WAY = pytest.mark.parametrize("how", [ALONE, IN_A_WORKER], ids=["alone", "in a worker"])


def run_tests(
    directory: Path, source: str, how: tuple[str, ...] = ALONE, **environment: str
) -> str:
    """Run `source` as a test module beside this suite's conftest; return what pytest prints."""
    for name in ("conftest.py", "leaks.py"):
        shutil.copy(HERE / name, directory / name)
    hurried = (directory / "leaks.py").read_text().replace("GRACE_S = 5.0", "GRACE_S = 0.2")
    (directory / "leaks.py").write_text(hurried)
    (directory / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    (directory / "test_it.py").write_text(source)
    inherited = {name: value for name, value in os.environ.items() if name != "TRAINERD_NO_SKIP"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            *how,
        ],
        cwd=directory,
        # What is installed beside pytest takes longer to load than such a run.
        env=inherited | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


LEAKY = """
import asyncio, gc, os, socket, subprocess, sys, threading

kept = []

def test_clean(tmp_path):
    with (tmp_path / "file").open("w"):
        pass
    subprocess.run(["true"])

def test_child():
    kept.append(subprocess.Popen(["sleep", "61234"]))

def test_detached():
    script = "import subprocess; subprocess.Popen(['sleep', '61234'], start_new_session=True)"
    subprocess.run([sys.executable, "-c", script])

def test_thread():
    stop = threading.Event()
    kept.append(stop)
    threading.Thread(target=stop.wait, name="trainerd-leak", daemon=True).start()

def test_file(tmp_path):
    kept.append((tmp_path / "leaked").open("w"))

def test_unix_server(tmp_path):
    server = socket.socket(socket.AF_UNIX)
    os.chdir(tmp_path)
    server.bind("s")
    server.listen()
    kept.append(server)

def test_tcp_server():
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    kept.append(server)

def test_task():
    loop = asyncio.new_event_loop()
    loop.create_task(asyncio.sleep(60))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    del loop
    gc.collect()
"""


@EITHER_WAY
def test_each_kind_of_leak_fails_its_test_alone_and_leaked_processes_are_ended(
    tmp_path: Path, how: tuple[str, ...]
) -> None:
    printed = run_tests(tmp_path, LEAKY, how)

    for name in ("child", "detached", "thread", "file", "unix_server", "tcp_server", "task"):
        assert f"ERROR test_it.py::test_{name} " in printed, printed
    assert "8 passed, 7 errors" in printed, printed
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(b"61234" in command for command in commands)


SKIPPING = """
import pytest

@pytest.mark.skip(reason="no promtool")
def test_marked():
    pass

def test_called():
    pytest.skip("not root")

@pytest.mark.xfail(reason="known", strict=True)
def test_expected_failure():
    assert False
"""


@EITHER_WAY
@pytest.mark.parametrize(
    ("value", "outcome"), [("0", "2 skipped, 1 xfailed"), ("1", "1 failed, 1 xfailed, 1 error")]
)
def test_a_skip_is_a_failure_where_nothing_may_be_skipped(
    tmp_path: Path, value: str, outcome: str, how: tuple[str, ...]
) -> None:
    printed = run_tests(tmp_path, SKIPPING, how, TRAINERD_NO_SKIP=value)

    assert outcome in printed, printed
    assert ("skipped where nothing may be: not root" in printed) is (value == "1")
    assert ("skipped where nothing may be: no promtool" in printed) is (value == "1")


@EITHER_WAY
def test_a_module_that_skips_itself_is_a_failure_too(tmp_path: Path, how: tuple[str, ...]) -> None:
    source = "import pytest\npytest.skip('no netns', allow_module_level=True)\n"
    printed = run_tests(tmp_path, source, how, TRAINERD_NO_SKIP="1")

    assert "skipped where nothing may be: no netns" in printed
    assert "1 error" in printed


FORGOTTEN = """
import asyncio, gc

async def fails():
    raise ValueError({message!r})

async def forget():
    task = asyncio.ensure_future(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task

def test_it():
    asyncio.run(forget())
    gc.collect()
"""


def test_a_forgotten_failure_counts_unless_it_is_one_of_tensorstores_own(tmp_path: Path) -> None:
    for name, message, end in (
        ("ours", "of our own", "1 passed, 1 error"),
        ("theirs", "[tensorstore_spec='x']", "1 passed in"),
    ):
        (tmp_path / name).mkdir()
        said = run_tests(tmp_path / name, FORGOTTEN.format(message=message))
        assert end in said, said
