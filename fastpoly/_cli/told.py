"""How a mistake is told: in one line on standard error, with exit status 2, never a traceback; so are warnings."""

from __future__ import annotations

import contextlib
import gc
import re
import warnings
from collections.abc import Callable, Iterator

import typer

from .._errors import BackendUnavailableError, ConvergenceWarning, DivergenceWarning

MISTAKE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

_OPTIONS = {
    "degree": "--degree",
    "steps": "--steps",
    "learn_rate": "--learn-rate",
    "domain": "--domain",
    "ridge": "--ridge",
    "trace_every": "--trace-every",
    "backend": "--backend",
    "precision": "--precision",
    "sigma": "--sigma",
    "sample_weight": "--weight",
}
"""What an argument of `fit` is called here."""

_ANY = "|".join(_OPTIONS)
_FIRST = re.compile(rf"({_ANY})(?=: )")
_LIST = re.compile(rf"(?<=leave out )(?:{_ANY})(?:(?:, | and )(?:{_ANY}))*")
_COMPOUND = re.compile(r"\b(?:learn_rate|trace_every|sample_weight)\b")


@contextlib.contextmanager
def told_in_a_line(named: Callable[[str], str] = str) -> Iterator[None]:
    """Tell what the block, a command, raises, if it is the user's to mend, and end the process.

    Args:
        named: what it raises with the names that things have on the command line.
    """
    if not gc.isenabled():  # as while modules are imported: they are no garbage, and not looked at again
        gc.freeze()
        gc.enable()
    try:
        yield
    except BrokenPipeError:  # nobody reads on, as `head` does not
        raise
    except (ValueError, TypeError, MemoryError, BackendUnavailableError, ModuleNotFoundError, OSError) as error:
        typer.echo(f"fastpoly: {named(_in_words(error))}", err=True)
        raise typer.Exit(MISTAKE) from None
    except KeyboardInterrupt as error:
        typer.echo(f"fastpoly: {str(error) or 'interrupted'}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _in_words(error: Exception) -> str:
    """What an error says; of the system's own, the file and the reason, without their numbers."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error)


def in_options(text: str) -> str:
    """The same of `fit`'s arguments, by the names that they have here."""

    def option(found: re.Match[str]) -> str:
        return re.sub(_ANY, lambda name: _OPTIONS[name[0]], found[0])

    text = text.replace("domain='auto'", "--domain auto")
    text = _FIRST.sub(option, text, count=1) if _FIRST.match(text) else text
    return _COMPOUND.sub(option, _LIST.sub(option, text))


@contextlib.contextmanager
def warnings_in_a_line() -> Iterator[list[type[Warning]]]:
    """Tell of a run that diverged or ended too early as of a mistake, and of any other warning as Python does.

    The list has what was told of when the block has ended.
    """
    caught: list[warnings.WarningMessage] = []
    told: list[type[Warning]] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            for category in (DivergenceWarning, ConvergenceWarning):
                warnings.simplefilter("always", category)
            yield told
    finally:
        for warning in caught:
            if issubclass(warning.category, (DivergenceWarning, ConvergenceWarning)):
                typer.echo(f"fastpoly: {in_options(str(warning.message))}", err=True)
                told.append(warning.category)
            else:
                warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
