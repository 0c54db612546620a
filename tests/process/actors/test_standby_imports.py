"""What a program does when it is imported, and whether a process that imported it may be forked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

IMPRINT = """\
import json, os, sys
from trainerd.actors.standby.imprint import Imprint, NotForkable

def said(code):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        before = Imprint.now()
        try:
            exec(code, {})
            before.check_since()
            answer = ''
        except NotForkable as error:
            answer = str(error)
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, 'rb') as stream:
        answer = stream.read().decode()
    os.waitpid(pid, 0)
    return answer

print(json.dumps({name: said(code) for name, code in json.loads(sys.argv[1]).items()}))
"""

PROGRAMS = {
    "nothing": "import wave, optax, jax.numpy as jnp\nx = 1",
    "own generators": "import numpy as np, random\nnp.random.default_rng(0).normal()\n"
    "random.Random(1).random()",
    "devices": "import jax\njax.devices()",
    "array": "import jax.numpy as jnp\njnp.zeros(3)",
    "thread": "import threading\nthreading.Thread(target=threading.Event().wait).start()",
    "process": "import subprocess\nkept = subprocess.Popen(['sleep', '1'])",
    "file": f"kept = open({__file__!r})\nglobals()['__builtins__']['kept'] = kept",
    "socket": "import socket\nglobals()['__builtins__']['kept'] = socket.socket()",
    "handler": "import signal\nsignal.signal(signal.SIGUSR2, signal.SIG_IGN)",
    "python seed": "import random\nrandom.seed(0)",
    "python draw": "import random\nrandom.random()",
    "numpy seed": "import numpy as np\nnp.random.seed(0)",
    "numpy draw": "import numpy as np\nnp.random.normal()",
}


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", IMPRINT, json.dumps(PROGRAMS)],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["nothing", "own generators"])
def test_an_ordinary_program_may_be_forked(said, name):
    assert said[name] == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("devices", "takes them"),
        ("array", "takes them"),
        ("thread", "it starts threads: there are 2"),
        ("process", "it starts a process"),
        ("file", f"{Path(__file__).name} (descriptor"),
        ("socket", "which forks would share"),
        ("handler", "it installs a signal handler"),
        ("python seed", "global random generator"),
        ("python draw", "global random generator"),
        ("numpy seed", "global random generator"),
        ("numpy draw", "global random generator"),
    ],
)
def test_what_a_fork_does_not_bear_is_named(said, name, reason):
    assert reason in said[name]


OPENINGS = """\
import json, os, sys
sys.path.insert(0, '.')
from trainerd.actors.standby.openings import Openings
openings = Openings()
open('before')
with openings.recorded() as paths:
    import module
    open('/dev/null')
    open('written', 'w')
    try: open('missing')
    except FileNotFoundError: pass
open('after')
print(json.dumps(sorted(os.path.relpath(path) for path in paths)))
"""


def test_the_files_that_an_import_reads_are_recorded(tmp_path):
    (tmp_path / "module.py").write_text("import json\nsettings = json.load(open('settings'))")
    (tmp_path / "settings").write_text("{}")
    for name in ("before", "after"):
        (tmp_path / name).touch()
    command = [sys.executable, "-c", OPENINGS]
    for _ in range(2):  # The second time from compiled code.
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        )
        recorded = set(json.loads(done.stdout))
        assert {"settings", "missing"} <= recorded
        assert not {"before", "after", "written", "/dev/null"} & recorded


TITLE = """\
import sys
from trainerd.actors.standby.title import retitle
retitle(sys.argv[1].split())
print(open('/proc/self/cmdline').read())
"""


@pytest.mark.parametrize(
    ("title", "shown"),
    [("short title", ["short", "title"]), ("x" * 10_000, ["x" * 10_000])],
)
def test_a_title_takes_the_place_of_the_command_line(title, shown):
    done = subprocess.run(
        [sys.executable, "-c", TITLE, title, "room"],
        env={"MARKER": "kept"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.rstrip("\n").rstrip("\0").split("\0") == shown
