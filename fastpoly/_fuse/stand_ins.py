"""torch's decompositions without what they import at their first call and have no use for.

`torch._compile._disable_dynamo` marks functions that torch.compile must not look into. It imports `torch._dynamo` when
such a function is first called, to wrap it. While a step is traced nothing is compiled, so that a stand-in can do the
wrapping: the functions run as they are, and are wrapped by the real one as soon as that has been imported. And
`torch._prims_common.elementwise_dtypes` imports sympy to ask of its arguments whether they are sympy's, which none are;
`torch._check` the guards of symbolic shapes, to ask of a bool whether it is true.

A stand-in that is asked for anything else imports the real module, and is one no longer.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any


def _disable(fn: Callable[..., Any], recursive: bool = True, **options: Any) -> Callable[..., Any]:
    """As torch._dynamo.disable, once there is one."""
    wrapped: list[Callable[..., Any]] = []

    def later(*args: Any, **kwargs: Any) -> Any:
        real = sys.modules.get("torch._dynamo")
        if not wrapped and real is not None and not isinstance(real, _StandIn):
            wrapped.append(real.disable(fn, recursive, **options))
        return (wrapped[0] if wrapped else fn)(*args, **kwargs)

    return later


class _Nobody:
    """In place of a class of which there is no object."""


class _StandIn(types.ModuleType):
    """A module that knows a name or two; for any other it gives way."""

    def __init__(self, name: str, **known: Any) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # of a package, whose modules `_OfTheRealOnes` finds
        vars(self).update(known)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real(), name)

    def real(self) -> types.ModuleType:
        """The real one, which takes the place from now on."""
        self.give_way()
        return importlib.import_module(self.__name__)

    def give_way(self) -> None:
        """Leave the place free."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


class _OfTheRealOnes(MetaPathFinder, Loader):
    """Finds the modules of a package that has a stand-in: the package itself is imported, and has them."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002
        stand_in = sys.modules.get(fullname.rpartition(".")[0])
        if not isinstance(stand_in, _StandIn):
            return None
        stand_in.real()
        # one that is there already would be loaded once more if it stayed: Python asks before it looks
        self.found = sys.modules.pop(fullname, None)
        return ModuleSpec(fullname, self) if self.found is not None else importlib.util.find_spec(fullname)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:  # noqa: ARG002
        self.spec = None if self.found is None else self.found.__spec__
        return self.found

    def exec_module(self, module: types.ModuleType) -> None:
        module.__spec__ = self.spec


_SHAPES = "torch.fx.experimental.symbolic_shapes"


def _of_plain(name: str, rule: Callable[..., Any]) -> Callable[..., Any]:
    """A function of torch's symbolic shapes, by a rule for what is no symbol: numbers and truths, or several."""

    def function(*values: Any) -> Any:
        return rule(*values) if all(map(_is_plain, values)) else getattr(_real(_SHAPES), name)(*values)

    return function


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, (tuple, list)) else type(value) in (int, bool)


def _equal(one: Any, other: Any) -> bool:
    return list(one) == list(other) if isinstance(one, (tuple, list)) else bool(one == other)


def _real(name: str) -> types.ModuleType:
    module = importlib.import_module(name)
    return module.real() if isinstance(module, _StandIn) else module


_GUARDS = ("expect_true", "guard_or_false", "guard_or_true", "guard_size_oblivious", "statically_known_true")
_RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys((*_GUARDS, "guard_int", "guarding_hint_or_throw"), lambda value, *_: value),
    "has_guarding_hint": lambda _: True,
    "is_nested_int": lambda _: False,
    "sym_and": lambda *truths: all(truths),
    "sym_or": lambda *truths: any(truths),
    "sym_eq": _equal,
}

_STAND_INS = (
    _StandIn(_SHAPES, **{name: _of_plain(name, rule) for name, rule in _RULES.items()}),
    _StandIn("torch._dynamo", disable=_disable),
    _StandIn("sympy", Basic=_Nobody),
)

_inside = 0
"""How many blocks of `stand_ins` are running, within each other or in several threads."""


@contextmanager
def stand_ins() -> Iterator[None]:
    """While the block runs, stand-ins are in the place of what has not been imported yet."""
    global _inside
    _inside += 1
    for module in _STAND_INS:
        sys.modules.setdefault(module.__name__, module)
    finder = _OfTheRealOnes()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        _inside -= 1
        sys.meta_path.remove(finder)
        if not _inside:
            for module in _STAND_INS:
                module.give_way()
