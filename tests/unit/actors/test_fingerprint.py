"""What makes two programs one: code and every value it computes with, and nothing that hides."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import io
import logging
import math
import random
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from trainerd.actors.examples import stdlib_lm
from trainerd.actors.fingerprint import fingerprint
from trainerd.actors.purity import Opaque


def of(*values: Any) -> str:
    return fingerprint(values)


def scaled(by: Any) -> Callable[..., Any]:
    def loss(params: Any, batch: Any, key: Any) -> Any:
        return params * by

    return loss


def loss_of(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "mine") -> Any:
    """The function `loss` of a user's module."""
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    loaded = importlib.import_module(name)
    monkeypatch.setitem(sys.modules, name, loaded)
    return loaded.loss


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = 3
    names: tuple[str, ...] = ("a",)


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Model:
    factor = 2.0

    def __init__(self, scale: Any) -> None:
        self.scale = scale

    def loss(self, params: Any, batch: Any, key: Any) -> Any:
        return params * self.scale * self.factor


SAME: list[Callable[[], Any]] = [
    lambda: scaled(2.0),
    lambda: scaled(np.arange(5)),
    lambda: scaled(jnp.ones(3)),
    lambda: scaled(jax.random.key(3)),
    lambda: scaled(Config()),
    lambda: scaled({"a": [1, (2, None)], "b": {1, 2, 3}}),
    lambda: scaled(Slotted([1])),
    lambda: scaled(Colour.RED),
    lambda: scaled(functools.partial(math.pow, 2.0)),
    lambda: Model(3.0).loss,
    lambda: jax.jit(scaled(2.0)),
    lambda: functools.partial(scaled(2.0), batch=3),
    lambda: optax.adamw(optax.warmup_cosine_decay_schedule(0, 1e-3, 10, 100)),
    lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.lion(1e-4)),
    lambda: stdlib_lm.build(width=16, layers=1, heads=2, context=8).loss,
    lambda: scaled(np.float32(1.5)),
    lambda: scaled(np.dtype("float32")),
    lambda: scaled(jax.tree.structure({"a": (1, 2)})),
    lambda: scaled(logging.getLogger("mine")),
]


@pytest.mark.parametrize("make", SAME)
def test_the_same_program_made_twice_has_one_fingerprint(make: Callable[[], Any]) -> None:
    assert of(make()) == of(make())


DIFFERENT: list[tuple[Any, Any]] = [
    (scaled(2.0), scaled(3.0)),
    (scaled(2), scaled(2.0)),
    (scaled(True), scaled(1)),
    (scaled(0.0), scaled(-0.0)),
    (scaled(np.arange(5)), scaled(np.arange(5) + np.eye(5, dtype=int)[4])),
    (scaled(np.zeros(4)), scaled(np.zeros((2, 2)))),
    (scaled(np.zeros(4, np.float32)), scaled(np.zeros(4, np.int32))),
    (scaled(jnp.ones(3)), scaled(jnp.ones(3).at[1].set(2))),
    (scaled(jnp.ones(3)), scaled(np.ones(3, np.float32))),
    (scaled(jax.random.key(3)), scaled(jax.random.key(4))),
    (scaled(jax.random.key(3)), scaled(jax.random.key(3, impl="rbg"))),
    (scaled(Config()), scaled(Config(width=4))),
    (scaled(Config()), scaled(Config(names=("a", "b")))),
    (scaled({"a": 1, "b": 2}), scaled({"b": 2, "a": 1})),
    (scaled([1, 2]), scaled((1, 2))),
    (scaled({1, 2}), scaled({1, 3})),
    (scaled(Slotted([1])), scaled(Slotted([2]))),
    (scaled(Colour.RED), scaled(Colour.BLUE)),
    (Model(3.0).loss, Model(4.0).loss),
    (jax.jit(scaled(2.0)), jax.jit(scaled(3.0))),
    (jax.jit(scaled(2.0)), jax.jit(scaled(2.0), static_argnums=1)),
    (functools.partial(scaled(2.0), batch=3), functools.partial(scaled(2.0), batch=4)),
    (optax.adamw(1e-3), optax.adamw(2e-3)),
    (optax.adamw(1e-3), optax.adam(1e-3)),
    (optax.adamw(1e-3, b1=0.9), optax.adamw(1e-3, b1=0.8)),
    (
        optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
        optax.inject_hyperparams(optax.adam)(learning_rate=2e-3),
    ),
    (
        optax.adam(optax.cosine_decay_schedule(1e-3, 10)),
        optax.adam(optax.cosine_decay_schedule(1e-3, 20)),
    ),
    (
        optax.masked(optax.sgd(0.1), {"a": True, "b": False}),
        optax.masked(optax.sgd(0.1), {"a": True, "b": True}),
    ),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_any_other_value_is_another_fingerprint(one: Any, other: Any) -> None:
    assert of(one) != of(other)


def test_values_are_seen_as_they_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(3.0)
    before = of(model.loss)
    monkeypatch.setattr(Model, "factor", 5.0)
    assert of(model.loss) != before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def loss(p, b, k): return p + 1", "def loss(p, b, k): return p + 2"),
        ("def loss(p, b, k): return p + b", "def loss(p, b, k): return p - b"),
        ("def loss(p, b, k): return p.sum()", "def loss(p, b, k): return p.max()"),
        ("N = 1\ndef loss(p, b, k): return p + N", "N = 2\ndef loss(p, b, k): return p + N"),
        (
            "def f(x): return x\ndef loss(p, b, k): return f(p)",
            "def f(x): return -x\ndef loss(p, b, k): return f(p)",
        ),
        (
            "def loss(p, b, k):\n    def f(x): return x * 2\n    return f(p)",
            "def loss(p, b, k):\n    def f(x): return x * 3\n    return f(p)",
        ),
        (
            "class F:\n    def f(self, x): return x\ndef loss(p, b, k): return F().f(p)",
            "class F:\n    def f(self, x): return -x\ndef loss(p, b, k): return F().f(p)",
        ),
        (
            "class F:\n    def __call__(self, x): return x\ndef loss(p, b, k): return F()(p)",
            "class F:\n    def __call__(self, x): return -x\ndef loss(p, b, k): return F()(p)",
        ),
        (
            "class F:\n    def __init__(self): self.n = 1\ndef loss(p, b, k): return F().n * p",
            "class F:\n    def __init__(self): self.n = 2\ndef loss(p, b, k): return F().n * p",
        ),
        (
            "class F:\n    def f(self, x): return x\nF1 = F()\ndef loss(p, b, k): return g(p)\n"
            "def g(p): return h(F1, p)\ndef h(f, p): return f.f(p)",
            "class F:\n    def f(self, x): return -x\nF1 = F()\ndef loss(p, b, k): return g(p)\n"
            "def g(p): return h(F1, p)\ndef h(f, p): return f.f(p)",
        ),
        ("def loss(p, b, k, n=1): return p + n", "def loss(p, b, k, n=2): return p + n"),
    ],
)
def test_any_other_code_is_another_fingerprint(
    before: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = of(loss_of(before, tmp_path, monkeypatch, "before"))
    assert first == of(loss_of(before, tmp_path, monkeypatch, "before"))
    changed = loss_of(after, tmp_path, monkeypatch, "after")
    changed.__module__ = "before"
    assert first != of(changed)


def test_a_value_in_another_module_of_the_users_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numbers_of_mine.py").write_text("RATE = 1.0\n")
    code = "import numbers_of_mine\ndef loss(p, b, k): return p * numbers_of_mine.RATE"
    loss = loss_of(code, tmp_path, monkeypatch)
    before = of(loss)
    monkeypatch.setattr(sys.modules["numbers_of_mine"], "RATE", 2.0)
    assert of(loss) != before
    monkeypatch.delitem(sys.modules, "numbers_of_mine")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def loss(p, b, k): return p * float(open('x').read())", "open"),
        ("import os\ndef loss(p, b, k): return p * int(os.environ['X'])", "module os"),
        ("import time\ndef loss(p, b, k): return p * time.time()", "module time"),
        ("from time import time\ndef loss(p, b, k): return p * time()", "module time"),
        ("import random\ndef loss(p, b, k): return p * random.random()", "module random"),
        ("from random import random\ndef loss(p, b, k): return p * random()", "Random"),
        ("import numpy as np\ndef loss(p, b, k): return np.random.normal()", "numpy.random"),
        ("import numpy as np\ndef loss(p, b, k): return np.load('x')", "numpy"),
        ("import jax.numpy as jnp\ndef loss(p, b, k): return jnp.load('x')", "load"),
        ("def loss(p, b, k):\n    import os\n    return p * os.getpid()", "module os"),
        ("def loss(p, b, k):\n    import not_yet_loaded\n    return p", "imports not_yet_loaded"),
        ("from pathlib import Path\ndef loss(p, b, k): return Path('x').read_text()", "pathlib"),
        ("def loss(p, b, k): return eval('p')", "eval"),
        ("it = iter([1, 2])\ndef loss(p, b, k): return p * next(it)", "iterator"),
        ("def f():\n    yield 1\ng = f()\ndef loss(p, b, k): return p * next(g)", "generator"),
        ("def loss(p, b, k):\n    def f(x): return open(x)\n    return f(p)", "open"),
        ("class A:\n    def f(self): return open('x')\ndef loss(p, b, k): return A().f()", "open"),
    ],
)
def test_code_that_looks_at_something_else_is_refused(
    code: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Opaque, match=says):
        of(loss_of(code, tmp_path, monkeypatch))


def test_what_a_loss_does_not_call_may_look_at_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
        import numpy as np
        class Model:
            def __init__(self): self.w = np.load("weights.npy") if False else 2.0
            def save(self): open("x")
            def loss(self, p, b, k): return p * self.w
        loss = Model().loss
        """
    assert of(loss_of(code, tmp_path, monkeypatch))
    called = code.replace("p * self.w", "p * self.save()")
    with pytest.raises(Opaque, match="open"):
        of(loss_of(called, tmp_path, monkeypatch, "called"))
    by_name = code.replace("p * self.w", "p * getattr(self, 'sa' + 've')()")
    with pytest.raises(Opaque, match=r"open|load"):
        of(loss_of(by_name, tmp_path, monkeypatch, "by_name"))


@pytest.mark.parametrize(
    "held", [random.Random(1), iter([1]), io.BytesIO(b"x"), np.array([object()]), (x for x in "ab")]
)
def test_what_hides_its_state_is_refused(held: Any) -> None:
    with pytest.raises(Opaque):
        of(scaled(held))


def test_a_structure_that_holds_itself_is_no_trap() -> None:
    def circle(value: int) -> Any:
        held: list[Any] = [value]
        held.append(held)
        return scaled(held)

    assert of(circle(1)) == of(circle(1)) != of(circle(2))


def test_one_that_is_nested_without_end_is_refused() -> None:
    held: list[Any] = []
    for _ in range(100_000):
        held = [held]
    with pytest.raises(Opaque):
        of(held)
    while held:
        held = held.pop()


def test_a_value_that_is_being_traced_is_refused() -> None:
    with pytest.raises(Opaque, match="being traced"):
        jax.eval_shape(lambda x: of(scaled(x)), jnp.ones(2))
