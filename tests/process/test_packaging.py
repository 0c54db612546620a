"""One distribution over four source roots, and the pinned requirements that go with it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import tree
from trainerd.v1.protocol import SOFTWARE

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REQUIREMENTS = ROOT / "ops" / "requirements"
PINNED = ("installer.txt", "runtime.txt", "development.txt")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The wheel of this tree."""
    output = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", output], cwd=ROOT, check=True, timeout=60)
    (path,) = output.glob("*.whl")
    return zipfile.Path(path)


def names(wheel: zipfile.Path) -> set[str]:
    """Return the files of a wheel."""
    return {name for name in wheel.root.namelist() if not name.endswith("/")}


def metadata(wheel: zipfile.Path, name: str) -> str:
    """Return a file of the wheel's metadata folder."""
    (path,) = (entry for entry in names(wheel) if entry.endswith(f".dist-info/{name}"))
    return (wheel / path).read_text()


def test_the_wheel_holds_the_four_packages_and_nothing_beside_them(wheel: zipfile.Path) -> None:
    code = {name for name in names(wheel) if ".dist-info/" not in name}

    assert {name.split("/")[0] for name in code} == {"trainerd"}
    assert {name.split("/")[1] for name in code} == {"v1", "daemon", "actors", "clients"}


def test_the_wheel_holds_every_source_file(wheel: zipfile.Path) -> None:
    sources = {
        str(path.relative_to(ROOT / root))
        for root in tree.PACKAGES
        for path in (ROOT / root / "trainerd").rglob("*")
        if path.suffix in {".py", ".pyi", ".proto", ".typed"}
    }

    assert {"trainerd/v1/control.proto", "trainerd/daemon/py.typed"} <= sources
    assert sources <= names(wheel)


def test_the_wheel_installs_both_commands_and_the_license(wheel: zipfile.Path) -> None:
    assert "trainerd = trainerd.daemon.main:main" in metadata(wheel, "entry_points.txt")
    assert "trainerctl = trainerd.clients.main:main" in metadata(wheel, "entry_points.txt")
    assert "Apache License" in metadata(wheel, "licenses/LICENSE")


def test_every_handshake_tells_the_version_of_the_distribution(wheel: zipfile.Path) -> None:
    assert Parser().parsestr(metadata(wheel, "METADATA"))["Version"] == SOFTWARE


def test_the_source_tree_has_no_problem_of_its_own() -> None:
    assert tree.namespace_problems(ROOT) == []


def test_a_stray_init_or_a_package_in_the_wrong_root_is_seen(tmp_path: Path) -> None:
    for root, package in tree.PACKAGES.items():
        (tmp_path / root / "trainerd" / package).mkdir(parents=True)
        (tmp_path / root / "trainerd" / package / "py.typed").touch()
    assert tree.namespace_problems(tmp_path) == []

    (tmp_path / "daemon/trainerd/__init__.py").touch()
    (tmp_path / "clients/trainerd/daemon").mkdir()
    (tmp_path / "proto/trainerd/v1/py.typed").unlink()

    assert tree.namespace_problems(tmp_path) == [
        "proto/trainerd/v1/py.typed is missing",
        "daemon/trainerd/__init__.py hides the other packages: remove it",
        "clients/trainerd/daemon belongs to another source root: move it",
    ]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("cd /ho" + "me/jsmith/trainerd", True),
        ('path = "/wo' + 'rk/main"', True),
        ("https://py" + "pi.org/simple", True),
        ("--index-" + "url x", True),
        ("/run/trainerd and /var/lib/trainerd", False),
        ("~/work/x, $HOME/work/x, ./work/x, run/work/x", False),
        ("/homework/", False),
        ("HOME=/home/ada", False),
    ],
)
def test_what_belongs_to_one_machine_is_told_from_what_does_not(text: str, seen: bool) -> None:
    assert bool(tree.foreign_text(text)) is seen


def pins(name: str) -> dict[str, list[Requirement]]:
    """Return what a requirements file pins, by canonical name."""
    text = (REQUIREMENTS / name).read_text().replace("\\\n", " ")
    found: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        requirement = Requirement(line.partition("--hash=")[0])
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def version(requirement: Requirement) -> Version:
    """Return the one version that a pin allows."""
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return Version(specifier.version)


@pytest.mark.parametrize("name", PINNED)
def test_every_requirement_is_pinned_by_hash_and_names_no_index(name: str) -> None:
    text = (REQUIREMENTS / name).read_text()

    for line in text.replace("\\\n", " ").splitlines():
        assert re.fullmatch(
            r"[\w.-]+==[\w.]+ *(;[^-]*(?:-[^-][^-]*)*)?( *--hash=sha256:\w{64})+", line
        )
    assert "://" not in text


@pytest.mark.parametrize(
    ("name", "extras"), [("runtime.txt", ()), ("development.txt", ("dev", "examples"))]
)
def test_the_pins_satisfy_what_the_project_declares(name: str, extras: tuple[str, ...]) -> None:
    declared = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
    for extra in extras:
        lines = PROJECT["project"]["optional-dependencies"][extra]
        declared += [Requirement(line) for line in lines if not line.startswith("trainerd[")]
    pinned = pins(name)

    for requirement in declared:
        for pin in pinned[canonicalize_name(requirement.name)]:
            assert version(pin) in requirement.specifier, f"{pin} against {requirement}"


def test_development_runs_what_production_runs() -> None:
    development = pins("development.txt")

    for name, pinned in pins("runtime.txt").items():
        assert set(map(version, pinned)) == set(map(version, development[name]))


@pytest.mark.parametrize("name", PINNED)
def test_no_accelerator_package_is_pinned(name: str) -> None:
    assert not [pin for pin in pins(name) if re.search(r"nvidia|cuda|rocm|tpu", pin)]
