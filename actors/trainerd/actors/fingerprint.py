"""A digest of Python functions and of everything that they compute with.

Two programs whose functions have one fingerprint trace to the same computation, provided that
their functions are pure, as JAX demands of what it traces: what they return follows from their
arguments, their code, and the values that they reach through closures, defaults, attributes and
global names. All of that is digested: a number that was read from a file while the program was
built counts, wherever it is kept. What cannot be digested completely, and code that plainly looks
at something else (a file, the clock, the environment, a generator of random numbers), is refused
with `Opaque`.

Code of installed packages and of Python itself counts by its name, its version and the values that
it was given; see `conditions`.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import logging
import re
import types
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any

import jax
import numpy as np

from trainerd.actors.checksum import checksum
from trainerd.actors.code_references import Reference, code_objects, references, unimported
from trainerd.actors.modules import is_installed
from trainerd.actors.purity import (
    Opaque,
    refuse_impure_builtin,
    refuse_impure_module,
    refuse_reading,
)
from trainerd.actors.python_objects import (
    cell_content,
    hidden_state,
    is_importable,
    name_of,
    slots_of,
)

_MOST_OBJECTS = 100_000
_MOST_BYTES = 1 << 28
"""Arrays beyond it take longer to digest than a program to compile."""

_Jitted = type(jax.jit(lambda: None))
_METHODS = (types.FunctionType, property, classmethod, staticmethod, functools.cached_property)
_CONSTRUCTORS = ("__init__", "__new__", "__post_init__")
_BY_ANY_NAME = frozenset({"getattr", "__getattribute__", "__dict__", "vars", "type", "__class__"})
"""Who uses one of these may call any method, or make another instance."""
_NAMED = (
    np.ufunc,
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)
"""What is known by its name."""
_UNSEEN = frozenset(
    {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "_abc_impl"}
    # How a value looks or is found in a table; those that Python makes for a dataclass use id().
    | {"__repr__", "__str__", "__hash__"}
)


class Fingerprint:
    """Collects the digest of any number of values. `Opaque` leaves it unusable."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, tuple[int, Any]] = {}
        self._bytes = 0
        self._names: set[str] = set()
        # Methods that count once somebody uses their name: name, the class they are of, what it is.
        self._methods: list[tuple[str, str, Any]] = []

    def add(self, value: Any) -> None:
        """Count a value in. Raises `Opaque`."""
        try:
            self._walk(value)
            self._walk_methods()
        except RecursionError:
            raise Opaque("its values are nested too deeply") from None

    def hexdigest(self) -> str:
        """SHA-256 over all that was added, in hexadecimal."""
        return self._hash.hexdigest()

    def _walk_methods(self) -> None:
        """Count in the methods that any code so far may call: others read files, log and so on."""
        while True:
            every = bool(self._names & _BY_ANY_NAME)
            called = [x for x in self._methods if every or x[0] in self._names]
            if not called:
                return
            self._methods = [x for x in self._methods if x not in called]
            for name, owner, method in called:
                self._put("called", owner, name)
                self._walk(method)

    def _put(self, kind: str, *parts: str | bytes) -> None:
        for part in (kind, *parts):
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            self._hash.update(len(data).to_bytes(8, "little"))
            self._hash.update(data)

    def _each(self, kind: str, values: Iterable[Any]) -> None:
        found = list(values)
        self._put(kind, str(len(found)))
        for value in found:
            self._walk(value)

    def _walk(self, value: Any) -> None:
        if value is None or value is Ellipsis or value is NotImplemented:
            self._put("constant", repr(value))
        elif type(value) in (bool, int, float, complex, str, range, slice):
            self._put(type(value).__name__, repr(value))
        elif type(value) in (bytes, bytearray):
            self._put(type(value).__name__, bytes(value))
        elif id(value) in self._seen:
            self._put("again", str(self._seen[id(value)][0]))
        else:
            # Kept, so that no other value gets its address meanwhile.
            self._seen[id(value)] = (len(self._seen), value)
            if len(self._seen) > _MOST_OBJECTS:
                raise Opaque(f"it reaches more than {_MOST_OBJECTS} objects")
            self._object(value)

    def _object(self, value: Any) -> None:
        """Something that computes, or a value to compute with."""
        match value:
            case types.ModuleType():
                self._module(value)
            case type():
                self._class(value)
            case types.FunctionType():
                self._function(value)
            case types.MethodType():
                self._each("method", (value.__func__, value.__self__))
            case types.BuiltinFunctionType() | types.BuiltinMethodType():
                self._builtin(value)
            case types.MethodWrapperType():
                self._put("wrapper", value.__name__)
                self._walk(value.__self__)
            case _ if isinstance(value, _NAMED):
                self._put("named", repr(value))
            case functools.partial():
                self._each("partial", (value.func, value.args, value.keywords, vars(value)))
            case functools._lru_cache_wrapper():
                self._each("cached", (value.__wrapped__, value.cache_parameters()))
            case functools.cached_property():
                self._each("property", (value.func,))
            case property():
                self._each("property", (value.fget, value.fset, value.fdel))
            case classmethod() | staticmethod():
                self._each(type(value).__name__, (value.__func__,))
            case _Jitted():
                self._jitted(value)
            case _:
                self._value(value)

    def _value(self, value: Any) -> None:
        match value:
            case np.ndarray() | np.generic():
                self._array(value)
            case jax.Array():
                self._jax_array(value)
            case np.dtype():
                self._put("dtype", repr(value))
            case tuple():
                self._container(value, tuple.__iter__(value))
            case list():
                self._container(value, list.__iter__(value))
            case dict():
                self._container(value, (part for pair in dict.items(value) for part in pair))
            case types.MappingProxyType():
                self._each("proxy", (part for pair in value.items() for part in pair))
            case set() | frozenset():
                self._kind(value)
                self._put("members", *sorted(_alone(member) for member in value))
            case enum.Enum():
                self._put("member", *name_of(type(value)), value.name)
                self._walk(value._value_)
            case PurePath() | re.Pattern():
                self._put(type(value).__name__, repr(value))
            case logging.Logger():
                self._put("logger", value.name)
            case jax.sharding.Sharding() | jax.sharding.Mesh() | jax.Device():
                self._put(type(value).__name__, repr(value))
            case jax.tree_util.PyTreeDef():
                self._each("tree", (value.node_data(), value.children()))
            case _:
                self._instance(value)

    def _container(self, value: Any, parts: Iterable[Any]) -> None:
        self._kind(value)
        self._each("parts", parts)
        self._attributes(value)

    def _module(self, module: types.ModuleType) -> None:
        """A module that is used as a value: anything in it may be used."""
        name = module.__name__
        if is_installed(name):
            refuse_impure_module(name)
            self._put("module", name)
            return
        skipped = ("__builtins__", "__cached__", "__file__", "__loader__", "__spec__", "__path__")
        self._put("module", name)
        self._each("names", (x for x in vars(module).items() if x[0] not in skipped))

    def _class(self, value: type) -> None:
        self._put("class", *name_of(value))
        if is_installed(value.__module__):
            return
        self._each("bases", value.__bases__)
        for name, member in vars(value).items():
            if name in _UNSEEN:
                continue
            owner = value.__qualname__
            if name in _CONSTRUCTORS:
                # Whoever has an instance already does not call it.
                self._methods.append((value.__name__, owner, member))
            elif isinstance(member, _METHODS) and not name.startswith("__"):
                self._methods.append((name, owner, member))
            else:
                self._put("member", name)
                self._walk(member)

    def _function(self, function: types.FunctionType) -> None:
        module = function.__module__ or ""
        if is_importable(function):
            refuse_impure_module(module)
            self._put("function", *name_of(function))
            return
        self._put("function", *name_of(function))
        self._code(function.__code__)
        cells = function.__closure__ or ()
        self._each("closure", (cell_content(cell) for cell in cells))
        self._each("defaults", (function.__defaults__, function.__kwdefaults__))
        self._each("attributes", vars(function).items())
        if not is_installed(module):
            for part in code_objects(function.__code__):
                # What `dataclass` makes compares types, and calls nothing by name.
                if part.co_filename != "<string>":
                    self._names.update(part.co_names)
            if name := unimported(function.__code__):
                raise Opaque(f"{function.__qualname__} imports {name} when it runs")
            for reference in references(function.__code__, function.__globals__):
                self._reference(function, reference)

    def _reference(self, function: types.FunctionType, reference: Reference) -> None:
        name, value = reference.name, reference.value
        if reference.builtin:
            refuse_impure_builtin(function.__qualname__, name)
            self._put("builtin", name)
            return
        names = [module.__name__ for module in reference.via]
        for module in names:
            refuse_impure_module(module)
        if isinstance(value, types.ModuleType):
            refuse_impure_module(value.__name__)
        elif isinstance(value, type) and is_installed(value.__module__):
            refuse_impure_module(value.__module__)
        refuse_reading(function.__qualname__, value)
        self._put("global", name, *names)
        if names and is_installed(names[-1]):
            # Whatever an installed package keeps under a name is its own.
            self._put("value", getattr(value, "__name__", type(value).__name__))
            return
        self._walk(value)

    def _code(self, code: types.CodeType) -> None:
        self._put(
            "code",
            code.co_code,
            repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)),
            repr((code.co_flags, code.co_names, code.co_varnames, code.co_freevars)),
            repr((code.co_cellvars, code.co_exceptiontable)),
        )
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant)
            else:
                self._walk(constant)

    def _builtin(self, value: Any) -> None:
        owner = value.__self__
        if isinstance(owner, types.ModuleType) or owner is None:
            module = value.__module__ or ""
            refuse_impure_module(module)
            self._put("builtin", module, value.__qualname__)
            return
        self._put("bound", value.__name__)
        self._walk(owner)

    def _jitted(self, value: Any) -> None:
        """What `jax.jit` and the like made of a function, and how."""
        if is_importable(value):
            self._put("jitted", *name_of(value))
            return
        known = vars(value)
        self._put("jitted", type(value).__name__)
        if (made := known.get("_jit_info")) is not None:
            self._put("options", repr(made._replace(fun_sourceinfo=None, fun_signature=None)))
        self._each("wrapped", (known["__wrapped__"],))

    def _array(self, value: Any) -> None:
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise Opaque("it holds an array of Python objects")
        self._count(array.nbytes)
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._put("array", repr(array.dtype), repr(array.shape), checksum(content))
        self._put("kind", *name_of(type(value)))

    def _jax_array(self, value: jax.Array) -> None:
        if isinstance(value, jax.core.Tracer):
            raise Opaque("it holds a value of a function that is being traced")
        if not value.is_fully_addressable:
            raise Opaque("it holds an array of several processes")
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            self._put("key", repr(jax.random.key_impl(value)))
            value = jax.random.key_data(value)
        self._put("jax", repr(value.sharding), repr(value.weak_type))
        self._array(np.asarray(value))

    def _instance(self, value: Any) -> None:
        if hidden := hidden_state(type(value)):
            raise Opaque(f"it holds {hidden}")
        self._kind(value)
        self._attributes(value)

    def _kind(self, value: Any) -> None:
        """The type of a value: of an installed package by name, otherwise with all it does."""
        self._walk(type(value))

    def _attributes(self, value: Any) -> None:
        own = getattr(value, "__dict__", {})
        self._each("attributes", (part for pair in own.items() for part in pair))
        self._each("slots", (part for pair in slots_of(value) for part in pair))

    def _count(self, size_bytes: int) -> None:
        self._bytes += size_bytes
        if self._bytes > _MOST_BYTES:
            raise Opaque(f"it holds arrays of more than {_MOST_BYTES >> 20} MiB")


def _alone(value: Any) -> bytes:
    """The digest of a member of a set, whatever stands beside it."""
    own = Fingerprint()
    own.add(value)
    return bytes.fromhex(own.hexdigest())


def fingerprint(values: Iterable[Any], make: Callable[[], Fingerprint] = Fingerprint) -> str:
    """SHA-256, in hexadecimal, of some values and all that they reach. Raises `Opaque`."""
    made = make()
    for value in values:
        made.add(value)
    return made.hexdigest()
