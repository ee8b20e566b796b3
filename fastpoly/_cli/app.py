"""The commands: their words, their options and their help. What they do stands in the other files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import __version__
from .._backends import backends
from .._post import STEPS
from ..profiling.results import CHECK_STEPS
from ..profiling.rounds import ROUNDS
from .numbers import AUTO, domain, integer, integer_or_auto, real, real_or_auto, reals
from .told import in_options, told_in_a_line, warnings_in_a_line

if TYPE_CHECKING:
    from rich.console import Console

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


def _console() -> Console:
    """For tables. It takes its time to import, so not before it is wanted."""
    from rich.console import Console

    return Console()


def keep_only(name: str) -> None:
    """Forget every command but that, if there is one of the name: typer takes 2 ms to set up each."""
    named = [command for command in app.registered_commands if command.name == name]
    named = named or [c for c in app.registered_commands if c.callback is not None and c.callback.__name__ == name]
    app.registered_commands = named or app.registered_commands


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
    with told_in_a_line():
        from .demo import run_demo

        right = run_demo(out, steps, only or [], slow, _console())
    raise typer.Exit(0 if right else 1)


Sep = Annotated[
    str | None, typer.Option(help="What separates the cells: one character, tab or space. [default: found]")
]
Decimal = Annotated[str | None, typer.Option(help="The decimal sign: . or , [default: found]")]
Skip = Annotated[int, typer.Option(parser=integer, help="Lines to pass over at the start.")]
Comment = Annotated[str | None, typer.Option(help="How lines begin that are passed over. [default: any of # % // ! ;]")]
Encoding = Annotated[str | None, typer.Option(help="Of the text, as utf-16 or cp1252. [default: found]")]


@app.command(
    epilog="Examples: fastpoly fit samples.csv --x time --y signal --degree 3; fastpoly fit scope.csv --y CH1 --y CH2; "
    "gunzip -c big.txt.gz | fastpoly fit - --sep tab --x 1 --y 4. "
    "Exit status: 0, also of a run that ended far from the minimum, which is told; 1 if it diverged; 2 for a mistake."
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
    steps: Annotated[
        int,
        typer.Option(
            parser=integer_or_auto, metavar="INTEGER|auto", help="Steps of gradient descent; auto: as many as it takes."
        ),
    ] = AUTO,  # type: ignore[assignment]
    learn_rate: Annotated[
        float,
        typer.Option(
            parser=real_or_auto, metavar="NUMBER|auto", help="Factor on the gradient; auto: the one that gets nearest."
        ),
    ] = AUTO,  # type: ignore[assignment]
    domain: Annotated[
        str,
        typer.Option(
            parser=domain,
            metavar="auto|none|LOW,HIGH",
            help="What is mapped to [-1, 1]; auto: from the least x to the largest; none: x is fitted as it is.",
        ),
    ] = AUTO,
    sigma: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of the standard deviation of each y. [default: all alike]"),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of the weight of each squared residual. [default: all alike]"),
    ] = None,
    ridge: Annotated[
        float,
        typer.Option(
            parser=reals,
            metavar="NUMBER",
            help="What each squared weight adds to the mse: a number, or one for each, as 0,0.1,0.1.",
        ),
    ] = 0.0,
    trace_every: Annotated[
        int,
        typer.Option(
            parser=integer_or_auto,
            metavar="INTEGER|auto",
            help="Keep the mse of one step in so many; auto: 100,000 of them at most.",
        ),
    ] = AUTO,  # type: ignore[assignment]
    backend: Annotated[str, typer.Option(help="A name that `fastpoly backends` lists, or auto.")] = AUTO,
    precision: Annotated[str, typer.Option(help="double, mixed or single.")] = "double",
    sep: Sep = None,
    decimal: Decimal = None,
    skip: Skip = 0,
    comment: Comment = None,
    encoding: Encoding = None,
    nan: Annotated[str, typer.Option(help="refuse samples without a number in x or y, or omit them.")] = "refuse",
    picture: Annotated[
        bool, typer.Option("--picture/--no-picture", help="Draw fit.png and mse.png, with matplotlib.")
    ] = True,
    out: Annotated[Path, typer.Option(help="Folder for fit.json, mse.npy and pictures.")] = Path("fastpoly-fit"),
) -> None:
    """Fit a polynomial to the samples in FILE.

    What no option tells is found in the file and said, or asked for where it is not clear. fit.json is what
    `fastpoly predict` reads, and FitResult.load in Python.
    """
    with told_in_a_line(in_options), warnings_in_a_line() as told:
        from .._errors import DivergenceWarning
        from .fit_file import Options, fit_file
        from .reading import Wanted

        _refuse_negative(skip)
        wanted = Wanted(x, tuple(y or ()), sep, decimal, skip, comment, encoding, nan, sigma, weight)
        options = Options(degree, steps, learn_rate, domain, ridge, trace_every, backend, precision)
        results = fit_file(file, wanted, options, picture, out)
    diverged = DivergenceWarning in told or any(result.diverged_at is not None for result in results)
    raise typer.Exit(1 if diverged else 0)


def _refuse_negative(skip: int) -> None:
    if skip < 0:
        raise ValueError(f"--skip: wants an integer >= 0, got {skip}")


@app.command(
    epilog="Examples: fastpoly predict fastpoly-fit/fit.json new.csv --out predicted.csv; "
    "seq 1990 2030 | fastpoly predict fastpoly-fit/fit.json - --x 1 --picture band.png"
)
def predict(
    fit: Annotated[Path, typer.Argument(metavar="FIT", help="A fit.json that `fastpoly fit` has written.")],
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Where x is: a file of any kind that `fastpoly fit` reads; - is stdin."),
    ],
    x: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of x: a name or a number. [default: named as the fit's]"),
    ] = None,
    band: Annotated[
        float, typer.Option(parser=real, metavar="LEVEL", help="How likely a new sample lies between lower and upper.")
    ] = 0.95,
    sep: Sep = None,
    decimal: Decimal = None,
    skip: Skip = 0,
    comment: Comment = None,
    encoding: Encoding = None,
    nan: Annotated[str, typer.Option(help="refuse lines without a number in x, or omit them.")] = "refuse",
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw curve and band there, as .png, .svg or .pdf. [default: no]"),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the table goes; - is stdout.")] = Path("-"),
) -> None:
    """Predict y at each x in FILE: a table of x, prediction, lower and upper, as CSV.

    Dates are counted from the fit's own first date. What is said goes to standard error while the table is on standard
    output.
    """
    with told_in_a_line():
        from .predict import predict_file
        from .reading import Wanted

        _refuse_negative(skip)
        wanted = Wanted(x, (), sep, decimal, skip, comment, encoding, nan)
        predict_file(fit, file, wanted, band, out, picture)


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
    with told_in_a_line():
        from . import profile as profiles

        if loss is None and learn_rate is not None:
            raise ValueError("--learn-rate: goes with --loss; the post's loop has its own")
        if loss is None:
            profiles.profile_post(out, steps, rounds, precision, device, _console())
        else:
            profiles.profile_loss(loss, out, rounds, learn_rate, _console())


@app.command(
    short_help="Show a loss on its way to machine code.", epilog="Example: fastpoly explain mymodule:loss --lines 0"
)
def explain(
    loss: Annotated[
        str,
        typer.Argument(help="module:function, as `fastpoly profile --loss` wants it.", metavar="MODULE:LOSS"),
    ],
    stage: Annotated[
        list[str] | None, typer.Option("--stage", help="Show this stage alone; several if given several times.")
    ] = None,
    lines: Annotated[int, typer.Option(parser=integer, help="The most to show of each stage; 0 for all.")] = 60,
) -> None:
    """Show what becomes of a loss: its trace, its loops, the kernel, LLVM's text and the machine code."""
    with told_in_a_line():
        from .explain import explain_loss

        if lines < 0:
            raise ValueError(f"--lines: wants an integer >= 0, got {lines}")
        explain_loss(loss, stage or (), lines or None, _console())


@app.command(hidden=True, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def report() -> None:
    """Say where the page of benchmark results is made now."""
    with told_in_a_line():
        raise ValueError("report: the page of benchmark results is made by `make report`, in a checkout of fastpoly")


@app.command("backends", epilog="Example: fastpoly backends")
def list_backends() -> None:
    """List what can run here, and why the rest cannot."""
    with told_in_a_line():
        from .tables import backends_table

        _console().print(backends_table(backends()))


@app.command(epilog="Example: fastpoly cache --clear")
def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove them: each is compiled anew when it is wanted.")
    ] = False,
) -> None:
    """Tell where compiled kernels are kept, and how many there are."""
    with told_in_a_line():
        from .cache import show_cache

        show_cache(clear, _console())
