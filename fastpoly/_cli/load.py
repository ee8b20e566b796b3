"""A loss of the user's own, from a module: what `fastpoly profile --loss module:function` names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

WANTS = "its module must have `params` and `data`, values or functions of nothing that return them"


@dataclass(frozen=True, eq=False)
class Loaded:
    """loss(params, *data), and where to start; `learn_rate` is None unless the module has one."""

    loss: Callable[..., Any]
    params: Any
    data: tuple[Any, ...]
    learn_rate: float | None


def load_loss(name: str) -> Loaded:
    """The function, and the `params`, `data` and, if there is one, `learn_rate` of its module.

    The module is found as `python -m` finds one: in the current folder first.

    Raises:
        ValueError, TypeError: there is no such module or function, it does not import, or it lacks something.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise ValueError(f"--loss: wants module:function, got {name!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = import_module(module_name)
    except Exception as error:  # whatever the user's module raises
        raise ValueError(f"--loss: cannot import {module_name}: {_in_a_line(error)}") from error
    loss = getattr(module, function_name, None)
    if not callable(loss):
        what = "has no" if loss is None else "has something else of the name, and no function"
        raise ValueError(f"--loss: module {module_name} {what} {function_name}")
    missing = [wanted for wanted in ("params", "data") if not hasattr(module, wanted)]
    if missing:
        raise ValueError(f"--loss: module {module_name} has no {' and no '.join(missing)}; {WANTS}")
    data = _value(module, "data")
    loaded = Loaded(loss, _value(module, "params"), data if isinstance(data, tuple) else (data,), _rate(module))
    try:
        loss(loaded.params, *loaded.data)
    except Exception as error:  # whatever the user's function raises
        raise ValueError(f"--loss: {function_name}(params, *data) raises {_in_a_line(error)}") from error
    return loaded


def _value(module: Any, name: str) -> Any:
    value = getattr(module, name)
    if not callable(value):
        return value
    try:
        return value()
    except Exception as error:  # whatever the user's function raises
        raise ValueError(f"--loss: {module.__name__}.{name}() raises {_in_a_line(error)}") from error


def _rate(module: Any) -> float | None:
    return _value(module, "learn_rate") if hasattr(module, "learn_rate") else None


def _in_a_line(error: Exception) -> str:
    said = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
