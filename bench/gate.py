"""Has this commit made anything slower? ``python -m bench.gate`` measures it against the one before, in one run.

Each side's package runs in a process of its own that stays alive; in every round each side has one block for each
case, in turns (A B, B A, ...), after fresh arrays and an uncounted warm-up. The arrays begin on a cache line: where
NumPy puts them follows from all that a process has done, and unaligned a depthwise layer takes a tenth longer. A ratio
is taken within a round, so that what slows the machine for longer than a round cancels, and its interval comes from the
sign test, which assumes no distribution.

What looks slower is measured again in four further pairs of new processes, whose memory lies elsewhere. It counts only
where all five pairs agree and the interval over all their rounds lies beyond the threshold: chance alone does not
fail. A commit that is slower on purpose says so in its message, in a line that begins with ``Slower:``.
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from bench.cases import Case, all_cases, representatives
from bench.machine import OtherLoad, cpu_count
from bench.report import number
from bench.verdict import CONFIDENCE, THRESHOLD, Ratio, paired_ratio
from bench.worker import ROOT, Worker, WorkerError

DTYPE = "float32"
WARM, SPAN = 0.02, 0.012  # seconds of a block
ROUNDS = 12
CONFIRMATIONS = 4
#: Larger cases are left out: where their pages lie makes a process slower than another, for as long as it lives.
MOST_BYTES = 6 << 20
SUSPECT = 0.5  # share of the threshold from which a case is measured again
LEAST_ROUNDS = 8  # fewer give no interval


class NothingToCompareError(Exception):
    """There is no other code; the message says why."""


@dataclass
class Comparison:
    """Times of one case, for each pair of processes: rounds of (before, now)."""

    case: Case
    pairs: list[list[tuple[float, float]]] = field(default_factory=list)

    @property
    def ratio(self) -> Ratio:
        """Time now divided by the time before, over all rounds."""
        rounds = [times for pair in self.pairs for times in pair]
        return paired_ratio([now for _, now in rounds], [before for before, _ in rounds])

    @property
    def medians(self) -> list[float]:
        """Median ratio of each pair of processes."""
        return [statistics.median(now / before for before, now in pair) for pair in self.pairs]

    def seconds(self, side: int) -> float:
        """Median time of a side: 0 before, 1 now."""
        return statistics.median(times[side] for pair in self.pairs for times in pair)

    def verdict(self, threshold: float) -> str:
        """Return "slower" only where every pair of processes and the interval say so, else as `Ratio` does."""
        found = self.ratio.verdict(threshold)
        agreed = len(self.pairs) > CONFIRMATIONS and all(median > 1 + threshold for median in self.medians)
        return "unclear" if found == "slower" and not agreed else found


def git(*arguments: str) -> bytes:
    """Return what a git command prints."""
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise NothingToCompareError("git is not installed") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines()
        raise NothingToCompareError(reason[-1] if reason else f"git {arguments[0]} failed") from error


def before_this(revision: str | None) -> str:
    """Return the commit to compare with: of what is not committed yet the last one, else the one before it."""
    if revision is None:
        revision = "HEAD" if git("status", "--porcelain", "--", "fastpool").strip() else "HEAD~1"
    commit = git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").decode().strip()
    if not (git("diff", "--stat", commit, "--", "fastpool") or git("ls-files", "-o", "--exclude-standard", "fastpool")):
        raise NothingToCompareError(f"the package is that of {revision}")
    return commit


def lay_out(commit: str, folder: Path) -> tuple[Path, Path]:
    """Put the package of a commit and that of the working tree into two folders of equally long names."""
    before, now = folder / "a", folder / "b"
    before.mkdir()
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit, "fastpool"))) as archive:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4; later ones ask for it
            archive.extractall(before, filter="data")
        else:
            archive.extractall(before)
    shutil.copytree(ROOT / "fastpool", now / "fastpool", ignore=shutil.ignore_patterns("__pycache__"))
    return before, now


def measure(
    comparisons: Sequence[Comparison], folders: tuple[Path, Path], threads: int, rounds: int, deadline: float
) -> None:
    """Start a pair of processes and add its rounds, as many as end before the deadline, but no fewer than needed."""
    with ExitStack() as stack:
        sides = [stack.enter_context(Worker("fastpool", threads, folder)) for folder in folders]
        for side, folder in zip(sides, folders, strict=True):
            origin = side.origin("fastpool")
            if not Path(origin).samefile(folder / "fastpool"):
                raise WorkerError(f"measures {origin} in place of {folder}")
        for comparison in comparisons:
            _prepare(sides, comparison.case)  # compiles, both at once
            comparison.pairs.append([])
        for turn in range(rounds):
            if turn >= LEAST_ROUNDS and perf_counter() > deadline:
                break
            for comparison in comparisons:
                _prepare(sides, comparison.case)
                order = (0, 1) if turn % 2 == 0 else (1, 0)
                times = {side: sides[side].measure(WARM, SPAN) for side in order}
                comparison.pairs[-1].append((times[0], times[1]))


def _prepare(sides: Sequence[Worker], case: Case) -> None:
    for side in sides:
        side.send("prepare", case.id, DTYPE)
    for side in sides:
        side.receive()


def compare(
    folders: tuple[Path, Path], cases: Iterable[Case], threads: int, threshold: float, seconds: float
) -> list[Comparison]:
    """Measure all cases, and again in new processes whatever looks slower each time."""
    start = perf_counter()
    comparisons = [Comparison(case) for case in cases]
    measure(comparisons, folders, threads, ROUNDS, start + 0.7 * seconds)
    for _ in range(CONFIRMATIONS):
        suspects = [c for c in comparisons if all(median > 1 + SUSPECT * threshold for median in c.medians)]
        if not suspects:
            break
        measure(suspects, folders, threads, ROUNDS, start + seconds)
    return comparisons


def table(comparisons: Sequence[Comparison], threshold: float) -> str:
    """Return one line for each case."""
    lines = [f"{'case':34} {'before':>8} {'now':>8}   {'ratio':>5}  {100 * CONFIDENCE:.0f} % interval  rounds  verdict"]
    for item in comparisons:
        ratio, (before, now) = item.ratio, (1e3 * item.seconds(side) for side in (0, 1))
        interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
        rounds = sum(map(len, item.pairs))
        times = f"{number(before):>8} {number(now):>8}"
        lines.append(
            f"{item.case.id:34} {times}   {ratio.value:.3f}  {interval}  {rounds:6}  {item.verdict(threshold)}"
        )
    return "\n".join(lines)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--against", metavar="REV", help="the other commit (default: the one before this code)")
    parser.add_argument("--only", metavar="SUBSTR", default="", help="of all cases, those whose name contains this")
    parser.add_argument("--threads", type=int, default=cpu_count(), help="default: all cores")
    parser.add_argument(
        "--threshold", type=float, default=THRESHOLD, help="smallest slowdown that counts (default %(default)g)"
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="time after which no further round begins (default %(default)g)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 where a case has become slower, 2 where there is no such commit, else 0."""
    options = parse(arguments)
    cases = (
        [case for case in all_cases().values() if options.only in case.id]
        if options.only
        else representatives(MOST_BYTES)
    )
    load = OtherLoad()
    try:
        commit = before_this(options.against)
        with tempfile.TemporaryDirectory() as folder:
            folders = lay_out(commit, Path(folder))
            found = compare(folders, cases, options.threads, options.threshold, options.seconds)
    except NothingToCompareError as reason:
        print(f"nothing to compare with: {reason}")
        return 0 if options.against is None else 2
    print(f"against {git('log', '-1', '--format=%h %s', commit).decode().strip()}, times in milliseconds, {DTYPE}")
    print(table(found, options.threshold))
    share = load.share()
    if share is not None:
        print(f"other processes took {100 * share:.0f} % of the processors")
    slower = [item.case.id for item in found if item.verdict(options.threshold) == "slower"]
    if not slower:
        print(f"nothing is slower by more than {100 * options.threshold:.0f} %")
        return 0
    print(f"slower by more than {100 * options.threshold:.0f} %: {', '.join(slower)}")
    message = git("log", "-1", "--format=%B").decode(errors="replace")
    if any(line.startswith("Slower:") for line in message.splitlines()):
        print("the commit's message says so")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
