"""`ops/install` below a root of its own: what it writes, leaves alone, and takes away again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import program
from places import Places
from work import InstallError, Work

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"


def usable() -> bool:
    """Whether there is a Python here that services could run."""
    probe = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
    try:
        return subprocess.run([PYTHON, "-c", probe], check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture(name="wheel", scope="module")
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(
        [*build, "--directory", output], cwd=ROOT, check=True, timeout=60, capture_output=True
    )
    (path,) = output.glob("*.whl")
    return path


def install(*flags: str, status: int = 0) -> str:
    done = subprocess.run(
        [ROOT / "ops/install", *flags],
        env={**os.environ, "PYTHON": PYTHON},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


@pytest.mark.skipif(not usable(), reason=f"needs {PYTHON} to be a Python ≥ 3.11 with ensurepip")
def test_it_is_staged_once_upgraded_and_removed_but_for_what_was_edited(
    wheel: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    stage = ["--root", str(root), "--wheel", str(wheel), "--system-packages"]
    dry = install(*stage, "--dry-run")
    assert "would make" in dry
    assert files(root) == []

    install(*stage)
    scripts = (root / "opt/trainerd/current/bin").resolve()
    for name in ("trainerd", "trainerctl", "trainerd-launcher"):
        # As it will be, however its first lines name it: a long path takes more than one.
        script = (scripts / name).read_text()
        assert f"/opt/trainerd/versions/{scripts.parent.name}/bin/python" in script
        assert str(root) not in script
    assert (root / "usr/local/lib/systemd/system/trainerd.service").exists()
    compiled = next(scripts.parent.glob("lib/python3*/site-packages/trainerd/v1/__pycache__"))
    assert str(root).encode() not in b"".join(path.read_bytes() for path in compiled.iterdir())
    assert "nothing to do" in install(*stage)

    edited = root / "etc/trainerd/trainerd.toml"
    edited.write_text(edited.read_text() + "# mine\n")
    install(*stage)
    assert edited.read_text().endswith("# mine\n")

    install("--root", str(root), "--uninstall")
    assert files(root) == ["etc/trainerd/trainerd.toml"]
    install("--root", str(root), "--uninstall", "--purge")
    assert files(root) == []


def test_what_cannot_be_is_refused_with_what_to_do(tmp_path: Path) -> None:
    assert "--purge goes with --uninstall" in install("--purge", status=2)
    other = tmp_path / "other-1-py3-none-any.whl"
    other.touch()
    with pytest.raises(InstallError, match="is not a wheel of trainerd"):
        program._name(other, program.Wanted(wheel=other))
    with pytest.raises(InstallError, match="there is no wheel"):
        program._name(tmp_path / "none.whl", program.Wanted())


def test_an_interpreter_that_other_users_cannot_run_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    python = closed / "python3"
    python.touch(mode=0o755)
    with pytest.raises(InstallError, match=r"cannot be run by the services' users: .* is closed"):
        program.refuse_private_interpreter(python)


def test_versions_that_nothing_needs_are_removed_the_one_before_is_kept(tmp_path: Path) -> None:
    places = Places(tmp_path)
    for number, name in enumerate(("1-a", "2-b", "3-c", "4-d")):
        (places.versions / name).mkdir(parents=True)
        os.utime(places.versions / name, (number, number))
    places.current.symlink_to("versions/4-d")
    # A process that runs from the first one, as the system will see it.
    sleeper = subprocess.Popen(
        [str(places.seen(places.versions / "1-a") / "bin/python"), "60"], executable="/bin/sleep"
    )
    try:
        # For a moment after exec the system shows no command line.
        deadline = time.monotonic() + 30
        while not Path(f"/proc/{sleeper.pid}/cmdline").read_bytes():
            assert time.monotonic() < deadline
        program.remove_unused(places, Work(dry=True))
        assert len(list(places.versions.iterdir())) == 4
        program.remove_unused(places, Work(dry=False))
    finally:
        sleeper.kill()
        sleeper.wait()
    assert sorted(path.name for path in places.versions.iterdir()) == ["1-a", "3-c", "4-d"]
