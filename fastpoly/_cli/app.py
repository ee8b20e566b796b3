"""The commands, and how a mistake is told: one line on standard error and exit status 2, never a traceback."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .. import __version__
from .._backends import backends
from .._errors import BackendUnavailableError, DivergenceWarning
from .._post import STEPS
from ..profiling.results import CHECK_STEPS
from ..profiling.rounds import ROUNDS
from .numbers import integer, integer_or_auto, real, real_or_auto

app = typer.Typer(
    name="fastpoly",
    help="Gradient descent on a polynomial, without the loop's price.",
    epilog="Example: fastpoly fit samples.csv --x time --y signal --degree 3",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # with it, what stands in square brackets is a style, and is not shown
    context_settings={"help_option_names": ["-h", "--help"]},
)

MISTAKE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@contextlib.contextmanager
def _told_in_a_line() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, MemoryError, BackendUnavailableError, ModuleNotFoundError, OSError) as error:
        typer.echo(f"fastpoly: {_in_words(error)}", err=True)
        raise typer.Exit(MISTAKE) from None
    except KeyboardInterrupt as error:
        typer.echo(f"fastpoly: {str(error) or 'interrupted'}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _in_words(error: Exception) -> str:
    """What an error says; of the system's own, the file and the reason, without their numbers."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error)


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


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastpoly {__version__}")
        raise typer.Exit


@app.callback()
def fastpoly(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version and end.")
    ] = False,
) -> None:
    """Gradient descent on a polynomial, without the loop's price."""


@app.command(epilog="Example: fastpoly demo --no-slow")
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


@app.command(
    epilog="Examples: fastpoly fit samples.csv --x time --y signal --degree 3; fastpoly fit scope.csv --y CH1 --y CH2; "
    "gunzip -c big.txt.gz | fastpoly fit - --sep tab --x 1 --y 4"
)
def fit(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Text with a sample a line (.csv, .tsv, .txt, .dat or other; .gz of these), .npy or .npz; - is stdin.",
        ),
    ],
    x: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of x: a name, or a number from 1 on (in .npy from 0 on). [default: the first of two]",
        ),
    ] = None,
    y: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of y; each of several is fitted by itself, with the same x. [default: the other]",
        ),
    ] = None,
    degree: Annotated[int, typer.Option(parser=integer, help="Degree of the polynomial.")] = 4,
    steps: Annotated[int, typer.Option(parser=integer_or_auto, help="Steps of gradient descent, or auto.")] = STEPS,
    learn_rate: Annotated[float, typer.Option(parser=real_or_auto, help="Factor on the gradient, or auto.")] = 1e-5,
    trace_every: Annotated[int, typer.Option(parser=integer, help="Keep the mse of one step in so many.")] = 1,
    backend: Annotated[str, typer.Option(help="A name that `fastpoly backends` lists, or auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="double, mixed or single.")] = "double",
    sep: Annotated[
        str | None, typer.Option(help="What separates the cells: one character, tab or space. [default: found]")
    ] = None,
    decimal: Annotated[str | None, typer.Option(help="The decimal sign: . or , [default: found]")] = None,
    skip: Annotated[int, typer.Option(parser=integer, help="Lines to pass over at the start.")] = 0,
    comment: Annotated[
        str | None, typer.Option(help="How lines begin that are passed over. [default: any of # % // ! ;]")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Of the text, as utf-16 or cp1252. [default: found]")] = None,
    nan: Annotated[str, typer.Option(help="refuse samples without a number in x or y, or omit them.")] = "refuse",
    picture: Annotated[bool, typer.Option("--picture/--no-picture", help="Draw fit.png, with matplotlib.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for weights.json, mse.npy and fit.png.")] = Path("fastpoly-fit"),
) -> None:
    """Fit a polynomial to the samples in FILE.

    What no option tells is found in the file and said, or asked for where it is not clear.
    """
    with _told_in_a_line(), _divergence_in_a_line():
        from .fit_file import fit_file
        from .reading import Wanted

        if skip < 0:
            raise ValueError(f"--skip: wants an integer >= 0, got {skip}")
        wanted = Wanted(x, tuple(y or ()), sep, decimal, skip, comment, encoding, nan)
        options = (degree, steps, learn_rate, trace_every, backend, precision)
        results = fit_file(file, wanted, *options, picture, out, Console())
    raise typer.Exit(1 if any(result.diverged_at is not None for result in results) else 0)


@app.command(short_help="Show where autograd's time goes.", epilog="Example: fastpoly profile --loss mymodule:loss")
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


@app.command(
    short_help="Make one HTML page of benchmark results.", epilog="Example: fastpoly report --out figures.html"
)
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


@app.command("backends", epilog="Example: fastpoly backends")
def list_backends() -> None:
    """List what can run here, and why the rest cannot."""
    with _told_in_a_line():
        from .tables import backends_table

        Console().print(backends_table(backends()))


@app.command(epilog="Example: fastpoly cache --clear")
def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove them: each is compiled anew when it is wanted.")
    ] = False,
) -> None:
    """Tell where compiled kernels are kept, and how many there are."""
    with _told_in_a_line():
        from .cache import show_cache

        show_cache(clear, Console())
