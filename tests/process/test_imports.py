"""Who may import whom: read from the sources, and seen in `sys.modules` of real processes."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("proto", "daemon", "actors", "clients")
ENTRY_POINTS = (
    "trainerd.daemon.main",
    "trainerd.actors.launcher.__main__",
    "trainerd.clients.main",
)
LIGHT_PACKAGES = ("trainerd.v1", "trainerd.daemon", "trainerd.actors.launcher", "trainerd.clients")
HEAVY = {
    "equinox",
    "flax",
    "grain",
    "jax",
    "jaxlib",
    "ml_dtypes",
    "numpy",
    "optax",
    "orbax",
    "scipy",
    "tensorstore",
}

# What a function of its arguments alone can need.
PURE = {
    "__future__",
    "abc",
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "enum",
    "functools",
    "heapq",
    "itertools",
    "math",
    "operator",
    "types",
    "typing",
}

EVERY_MODULE = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, sys.argv[1] + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*sys.modules, sep="\\n")
"""

ONE_MODULE = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*sys.modules, sep="\\n")
"""


def loaded(script: str, name: str) -> set[str]:
    """Return the modules that a fresh interpreter holds after importing `name`."""
    done = subprocess.run(
        [sys.executable, "-c", script, name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def roots(modules: set[str]) -> set[str]:
    """Return the top-level names of dotted ones."""
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize("module", ENTRY_POINTS)
def test_a_program_that_does_not_train_starts_without_jax(module: str) -> None:
    assert roots(loaded(ONE_MODULE, module)) & HEAVY == set()


def test_a_trainer_has_jax_still_to_import_when_it_attaches() -> None:
    """Its daemon hears of it meanwhile."""
    assert roots(loaded(ONE_MODULE, "trainerd.actors.trainer.main")) & HEAVY == set()


@pytest.mark.parametrize("package", LIGHT_PACKAGES)
def test_no_module_outside_training_loads_jax(package: str) -> None:
    assert roots(loaded(EVERY_MODULE, package)) & HEAVY == set()


@pytest.mark.parametrize(
    ("package", "strangers"),
    [
        ("trainerd.v1", ("trainerd.daemon", "trainerd.actors", "trainerd.clients")),
        ("trainerd.daemon", ("trainerd.actors", "trainerd.clients")),
        ("trainerd.clients", ("trainerd.actors", "trainerd.daemon")),
        ("trainerd.actors.launcher", ("trainerd.clients", "trainerd.daemon")),
    ],
)
def test_siblings_do_not_load_one_another(package: str, strangers: tuple[str, ...]) -> None:
    modules = loaded(EVERY_MODULE, package)

    assert package in modules
    assert not {module for module in modules if module.startswith(strangers)}


def impure_imports(source: str) -> list[str]:
    """Return what a module of the supervisor imports beyond pure modules and its own package."""
    names = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                names += [alias.name for alias in node.names]
            case ast.ImportFrom(module=str(module), level=0):
                names.append(module)
    own = "trainerd.daemon.supervision"
    return [
        name
        for name in names
        if name.partition(".")[0] not in PURE and name != own and not name.startswith(f"{own}.")
    ]


def test_the_supervisor_imports_nothing_that_knows_the_time_or_the_world() -> None:
    files = sorted((ROOT / "daemon/trainerd/daemon/supervision").rglob("*.py"))
    impure = {path.name: impure_imports(path.read_text()) for path in files}

    assert len(files) > 1
    assert {name: names for name, names in impure.items() if names} == {}


def test_an_impure_import_is_seen_wherever_it_hides() -> None:
    source = "def f():\n    import time\nfrom trainerd.daemon import clock\nimport os.path as p\n"

    assert impure_imports(source) == ["trainerd.daemon", "os.path", "time"]


@pytest.mark.parametrize(
    ("planted_in", "line", "contract"),
    [
        ("clients/trainerd/clients/planted.py", "import trainerd.daemon", "siblings"),
        ("proto/trainerd/v1/planted.py", "import trainerd.clients", "siblings"),
        ("actors/trainerd/actors/launcher/planted.py", "import jax", "no-jax"),
        ("daemon/trainerd/daemon/supervision/planted.py", "import time", "pure-supervision"),
    ],
)
def test_each_import_contract_is_broken_by_what_it_forbids(
    tmp_path: Path, planted_in: str, line: str, contract: str
) -> None:
    for source in SOURCES:
        shutil.copytree(ROOT / source, tmp_path / source)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = tmp_path / planted_in
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(f"{line}\n")
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache", "--contract", contract],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": ":".join(str(tmp_path / source) for source in SOURCES)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1, done.stdout + done.stderr
    assert ".planted" in done.stdout
