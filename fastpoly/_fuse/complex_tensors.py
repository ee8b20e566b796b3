"""Complex tensors of a trace: a complex one shares its memory with the real one of its parts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .arguments import Operation, result_like
from .complex_numbers import taken_apart
from .factorizations import NotTakenApart
from .writes import Traced, offset_of

if TYPE_CHECKING:
    from .tracer import Tracer


def of_complex_numbers(tracer: Tracer, operation: Operation, args: Any, kwargs: Any) -> Any:
    """What an operation on complex numbers makes of their parts; NotImplemented if it is to be taken apart before."""
    name = operation.name
    if name in ("view_as_real", "view_as_complex"):
        kind = tracer.kind(result_like(operation, args, kwargs), args[0].kind.device)
        offset = args[0].kind.offset
        kind = replace(kind, offset=2 * offset if name == "view_as_real" else offset // 2)
        return tracer.traced(args[0].node, tracer.only(kind)).sharing(args[0].memory)
    try:
        with tracer:
            result = taken_apart(name, operation.func, args, kwargs)
    except NotTakenApart as reason:
        raise tracer.refusal(name, reason.why, reason.way_out) from None
    if operation.is_view and isinstance(result, Traced) and isinstance(args[0], Traced):
        if name == "_conj":  # whose memory has other numbers
            result.memory.is_input = True
            return result
        kind = tracer.kind(result_like(operation, args, kwargs), args[0].kind.device, offset_of(operation, args))
        return tracer.traced(result.node, kind).sharing(args[0].memory)
    return result
