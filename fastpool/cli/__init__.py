"""The command line: `fastpool compare`, `fastpool run`, `fastpool bench` and `fastpool info`.

This module holds the arguments and the exit codes. Each command lives in a module of its own, imported when it is
called, so that `fastpool --help` needs neither Numba nor the packages of the `cli` extra.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from fastpool.cli.errors import CommandError

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it

COMPARE_DESCRIPTION = """\
How should a network downsample? Shrink one picture in every way that networks use, check each result against
im2col + matmul or plain NumPy, print what each way costs, and write one contact sheet where the results stand side
by side.
"""

COMPARE_EPILOG = """\
what the columns mean:
  mult-adds        one for every tap that is summed; the comparisons of max pooling are not counted
  bytes moved      what every pass has to read and write at least once: input, weights, output, and so also the
                   intermediate of a way that takes two passes
  extra memory     the most that is held beside input, weights and output during one call
  time             median of a warm call; both sides prepared, compiled and warmed up, measured in turns
  shift            how much the output changes when the picture moves by one pixel, which shows aliasing:
                   RMS of y(moved x) - y(x), over the RMS contrast (standard deviation about each channel's mean) of
                   y(x), both without the outermost output pixels, for a move up and a move left, their RMS. A picture
                   free of aliasing moves too, so that it is never 0; the smaller, the steadier.

The picture is cropped at the right and at the bottom to a multiple of the factor, so that all outputs have one shape.
"""


RUN_DESCRIPTION = """\
Run an ONNX model, and print the shapes of its outputs or the top classes, and how long it took.
"""

RUN_EPILOG = """\
A picture is scaled to the size that the model takes, and normalised by the mean and standard deviation of ImageNet's
colours; for a model of one channel it becomes grey, from 0 to 1. Without INPUT the model runs on random numbers.
"""


BENCH_DESCRIPTION = """\
How fast are the layers of well-known networks on this machine, and how far from its limits? Every layer is measured in
every round, just after what the machine itself does at best: fused multiply-adds on registers, or copies of memory.
"""

BENCH_EPILOG = """\
what --against can tell, and what not:
  The file is of another run: an earlier hour, other processes, memory at other addresses. Each time is therefore
  divided by what the machine did just before it, and a layer counts as slower or faster only where an interval of
  confidence of the ratio (99 %, from the ranks of the rounds, no distribution assumed) lies beyond 5 %, and as slower
  only where new rounds say so again. That finds lasting changes of a layer on one machine. It cannot tell a change of
  this package from one of Numba, NumPy, the system or a neighbour that never rests; versions that differ are named.
  To compare two commits, run them in turns: python -m bench.gate in a clone of the repository.

exit code: 0; 1 where a layer is slower; 2 where the command could not start; 130 after Ctrl-C, when what was measured
until then is printed and written.
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are ours to print: one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(message)


def _factor(text: str) -> int:
    try:
        factor = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 2, got {text!r}") from None
    if factor < 2:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 2, got {factor}")
    return factor


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return count


class _Version(argparse.Action):
    """`--version`, which asks the package only when it is used."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from fastpool import __version__

        print(f"fastpool {__version__}")
        parser.exit()


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastpool",
        description="Strided convolution, subsampling and pooling over NCHW NumPy arrays, on the CPU.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    compare = commands.add_parser(
        "compare",
        help="downsample a picture in every way, side by side",
        description=COMPARE_DESCRIPTION,
        epilog=COMPARE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.add_argument(
        "image", nargs="?", metavar="IMAGE", help="the picture (default: a photograph of Grace Hopper)"
    )
    compare.add_argument(
        "--factor", type=_factor, default=2, metavar="N", help="how many times smaller, at least 2 (default: 2)"
    )
    compare.add_argument(
        "--out", default="sheet.png", metavar="FILE", help="where the contact sheet goes, a .png (default: sheet.png)"
    )
    compare.add_argument("--rounds", type=_count, default=7, metavar="N", help="rounds of timing (default: 7)")
    compare.add_argument("--json", action="store_true", help="print the results as JSON instead of a table")

    run = commands.add_parser(
        "run",
        help="run an ONNX model",
        description=RUN_DESCRIPTION,
        epilog=RUN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("model", metavar="MODEL.onnx", help="the model")
    run.add_argument(
        "input",
        nargs="?",
        metavar="INPUT",
        help="a .npy array, a .npz archive with an array for each input, or a picture (default: random numbers)",
    )
    run.add_argument("--profile", action="store_true", help="print the time of each step")
    run.add_argument("--picture", metavar="FILE", help="draw the profile, as .png, .svg or .pdf")
    run.add_argument("--top", type=_count, metavar="N", help="print the N largest outputs (default: 5 for a picture)")
    run.add_argument("--repeat", type=_count, default=1, metavar="N", help="runs that are timed (default: 1)")

    bench = commands.add_parser(
        "bench",
        help="measure the layers of well-known networks against the machine's limits, or an earlier run",
        description=BENCH_DESCRIPTION,
        epilog=BENCH_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bench.add_argument("--quick", action="store_true", help="one layer of each kind, fewer rounds: some ten seconds")
    bench.add_argument("--only", default="", metavar="TEXT", help="layers whose name (network/layer) contains this")
    bench.add_argument("--rounds", type=_count, metavar="N", help="rounds (default: 11; 7 with --quick)")
    bench.add_argument("--json", metavar="FILE", help="write everything measured, for --against")
    bench.add_argument("--against", metavar="FILE", help="compare with an earlier run's --json, layer by layer")
    bench.add_argument(
        "--roofline", metavar="FILE", help="where the picture goes, a .png, .svg or .pdf (default: roofline.png)"
    )

    info = commands.add_parser(
        "info",
        help="show what fastpool knows of this machine",
        description="Show the CPU, the vector width, threads, cache folder and versions that fastpool works with.",
    )
    info.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "info":
        from fastpool.cli.info import show_info

        show_info(as_json=arguments.json)
    elif arguments.command == "run":
        from fastpool.cli.run import run_model

        run_model(
            arguments.model,
            arguments.input,
            profile=arguments.profile,
            picture=arguments.picture,
            top=arguments.top,
            repeat=arguments.repeat,
        )
    elif arguments.command == "bench":
        from fastpool.cli.bench import bench

        return bench(**{name: value for name, value in vars(arguments).items() if name not in ("command", "version")})
    else:
        from fastpool.cli.compare import compare

        compare(
            arguments.image,
            factor=arguments.factor,
            out=arguments.out,
            rounds=arguments.rounds,
            as_json=arguments.json,
        )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own) and return its exit code.

    0 is success. 2 means that the command could not start on what it was given, 1 that a result disagrees with its
    baseline; both print one line, `fastpool: error: ...`, on standard error. `bench` returns 1 where a layer has become
    slower.
    """
    try:
        code = _run(_build_parser().parse_args(argv))
        sys.stdout.flush()
    except CommandError as error:
        line = " ".join(str(error).splitlines())
        print(f"fastpool: error: {line}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`fastpool compare --json | head`). What is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code
