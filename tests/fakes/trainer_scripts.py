"""Tiny programs that the launcher starts as trainers in tests. None imports trainerd."""

PREAMBLE = """\
import ctypes, os, signal, subprocess, sys, time
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # die with the launcher
assignment = sys.stdin.buffer.read()
def say(text):
    print(text, flush=True)
def idle():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        signal.sigtimedwait([signal.SIGUSR1], 60)
"""

SLEEPER = PREAMBLE + "say('ready')\nidle()\n"

POLITE = (
    PREAMBLE
    + """\
def save(*_):
    say('saved')
    os._exit(0)
signal.signal(signal.SIGTERM, save)
say('ready')
idle()
"""
)

HANGS = (
    PREAMBLE
    + """\
import faulthandler, threading
faulthandler.register(signal.SIGUSR1, all_threads=True)
def reads_for_ever():
    time.sleep(60)
def holds_the_lock():
    say('ready')
    end = time.monotonic() + 60
    while time.monotonic() < end:
        ctypes.PyDLL(None).sleep(60)
threading.Thread(target=reads_for_ever, name='reader', daemon=True).start()
holds_the_lock()
"""
)

STUBBORN = (
    PREAMBLE
    + """\
signal.signal(signal.SIGTERM, lambda *_: say('refused'))
child = os.fork()
if child == 0:
    idle()
say(f'ready {child}')
idle()
"""
)

LEAVES_A_PROCESS = (
    PREAMBLE
    + """\
child = os.fork()
if child == 0:
    idle()
say(f'left {child}')
"""
)

FAILS = (
    PREAMBLE
    + """\
for line in range(100):
    say(f'line {line}')
sys.exit(3)
"""
)

SEGFAULTS = PREAMBLE + "os.kill(os.getpid(), signal.SIGSEGV)\n"

SHOWS_ITSELF = (
    PREAMBLE
    + """\
import json
locks = [fd for fd in os.listdir('/proc/self/fd')
         if os.path.exists(f'/proc/self/fd/{fd}')
         and os.readlink(f'/proc/self/fd/{fd}').endswith('.lock')]
say(json.dumps({
    'environment': dict(os.environ),
    'argv': open('/proc/self/cmdline').read(),
    'directory': os.getcwd(),
    'group': os.getpgid(0) == os.getpid(),
    'assignment': assignment.hex(),
    'locks': len(locks),
}))
"""
)

ORPHANS = (
    PREAMBLE
    + """\
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        say(f'orphan {os.getpid()}')
        os.read(os.open(sys.argv[0] + '.fifo', os.O_RDONLY), 1)
        os._exit(7)
    os._exit(0)
os.wait()
say('ready')
idle()
"""
)
