"""The commands, and how a mistake is told: one line on standard error and exit status 2, never a traceback."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .._backends import backends
from .._errors import BackendUnavailableError, DivergenceWarning
from .._post import STEPS
from ..profiling.results import CHECK_STEPS
from ..profiling.rounds import ROUNDS
from .numbers import integer, real

app = typer.Typer(
    name="fastpoly",
    help="Gradient descent on a polynomial, without the loop's price.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

MISTAKE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@contextlib.contextmanager
def _told_in_a_line() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, MemoryError, BackendUnavailableError, ModuleNotFoundError, OSError) as error:
        typer.echo(f"fastpoly: {error}", err=True)
        raise typer.Exit(MISTAKE) from None
    except KeyboardInterrupt as error:
        typer.echo(f"fastpoly: {str(error) or 'interrupted'}", err=True)
        raise typer.Exit(INTERRUPTED) from None


@contextlib.contextmanager
def _divergence_in_a_line() -> Iterator[None]:
    """Tell of a DivergenceWarning as of a mistake, and of any other warning as Python does."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DivergenceWarning)
            yield
    finally:
        for warning in caught:
            if issubclass(warning.category, DivergenceWarning):
                typer.echo(f"fastpoly: {warning.message}", err=True)
            else:
                warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures and the table as JSON.")] = Path("fastpoly-demo"),
    steps: Annotated[int, typer.Option(parser=integer, help="Steps of gradient descent.")] = STEPS,
    only: Annotated[list[str] | None, typer.Option(help="Run this backend only; may be repeated.")] = None,
    slow: Annotated[bool, typer.Option("--slow/--no-slow", help="Run the post's own loops too.")] = True,
) -> None:
    """Run every backend on the post's problem and compare."""
    with _told_in_a_line():
        from .demo import run_demo

        right = run_demo(out, steps, only or [], slow, Console())
    raise typer.Exit(0 if right else 1)


@app.command()
def fit(
    file: Annotated[Path, typer.Argument(help="CSV with a header, .npy of two columns, or .npz.")],
    x: Annotated[
        str | None, typer.Option(help="Column of x: a name, or a number in .npy. [default: the first]")
    ] = None,
    y: Annotated[str | None, typer.Option(help="Column of y. [default: the one after]")] = None,
    degree: Annotated[int, typer.Option(parser=integer, help="Degree of the polynomial.")] = 4,
    steps: Annotated[int, typer.Option(parser=integer, help="Steps of gradient descent.")] = STEPS,
    learn_rate: Annotated[float, typer.Option(parser=real, help="Factor on the gradient.")] = 1e-5,
    trace_every: Annotated[int, typer.Option(parser=integer, help="Keep the mse of one step in so many.")] = 1,
    backend: Annotated[str, typer.Option(help="A name that `fastpoly backends` lists, or auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="double, mixed or single.")] = "double",
    out: Annotated[Path, typer.Option(help="Folder for weights.json, mse.npy and fit.png.")] = Path("fastpoly-fit"),
) -> None:
    """Fit a polynomial to the samples in FILE."""
    with _told_in_a_line(), _divergence_in_a_line():
        from .fit_file import fit_file

        options = (degree, steps, learn_rate, trace_every, backend, precision)
        result = fit_file(file, x, y, *options, out, Console())
    raise typer.Exit(0 if result.diverged_at is None else 1)


@app.command()
def profile(
    loss: Annotated[
        str | None,
        typer.Option(
            help="Profile a loss of your own, module:function, instead of the post's loop: function(params, *data) "
            "returns one number, and the module has `params` (a tensor, or a list, tuple or dict of them) and `data` "
            "(a tensor or a tuple), or functions of nothing that return them, and may have `learn_rate`."
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(parser=integer, help="Steps after which the rungs' weights are compared: a multiple of 8.")
    ] = CHECK_STEPS,
    rounds: Annotated[int, typer.Option(parser=integer, help="How often each is timed, all in turn.")] = ROUNDS,
    precision: Annotated[str, typer.Option(help="single or double.")] = "single",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    learn_rate: Annotated[
        float | None,
        typer.Option(parser=real, help="Factor on the gradient, with --loss; the module's if left out, or 0.001."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for pictures, numbers and the trace.")] = Path("fastpoly-profile"),
) -> None:
    """Show where autograd's time goes: one change at a time, and the parts of a step."""
    with _told_in_a_line():
        from . import profile as profiles

        if loss is None and learn_rate is not None:
            raise ValueError("--learn-rate: goes with --loss; the post's loop has its own")
        if loss is None:
            profiles.profile_post(out, steps, rounds, precision, device, Console())
        else:
            profiles.profile_loss(loss, out, rounds, learn_rate, Console())


@app.command()
def report(
    results: Annotated[
        list[Path] | None, typer.Argument(help="Result files. [default: the newest of each device in bench/results]")
    ] = None,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
) -> None:
    """Make one HTML page of benchmark results; `make bench` makes those."""
    with _told_in_a_line():
        from .report import write_report

        write_report(results or [], out, Console())


@app.command("backends")
def list_backends() -> None:
    """List what can run here, and why the rest cannot."""
    with _told_in_a_line():
        from .tables import backends_table

        Console().print(backends_table(backends()))


@app.command()
def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove them: each is compiled anew when it is wanted.")
    ] = False,
) -> None:
    """Tell where compiled kernels are kept, and how many there are."""
    with _told_in_a_line():
        from .cache import show_cache

        show_cache(clear, Console())
