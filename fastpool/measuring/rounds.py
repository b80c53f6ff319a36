"""Rounds over many cases, each block beside a measurement of what the machine gives at that moment."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Bytes of a case from which it is taken to come from memory and not from a cache.
FROM_MEMORY = 24 << 20


@dataclass
class Measured:
    """The times of a case, a median for each round, and the rate of the machine just before each of them."""

    case: Any
    yardstick: str  #: "flops" or "copy": the limit that the rates are of
    seconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median of the rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half of the distance between the quartiles, relative to the median; 0 of fewer than two rounds."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / 2 / self.median

    @property
    def normalised(self) -> list[float]:
        """Times in units of what the machine does in a second: a slower machine, or moment, cancels."""
        return [seconds * rate for seconds, rate in zip(self.seconds, self.rates, strict=True)]

    def share(self, kind: str, work: int, limit: float) -> float:
        """Share that the rate of `work` has of what the machine can do of a kind.

        If that is the yardstick, of its rate just before each block, a median of ratios: the clock of a processor that
        is shared moves by a tenth within seconds, and the best moment of all is not one in which the layer was
        measured. Else of `limit`, its best.
        """
        if kind == self.yardstick:
            return work / statistics.median(self.normalised)
        return work / self.median / limit


def yardstick(case: Any, dtype: str) -> str:
    """Rate that the speed of a case follows: of memory for large ones that compute little, else of multiply-adds."""
    large = case.bytes(dtype) > FROM_MEMORY and case.flops < 4 * case.bytes(dtype)
    return "copy" if large else "flops"


def measure_rounds(
    found: Sequence[Measured],
    rounds: int,
    prepare: Callable[[Any], Callable[[], Any]],
    measure: Callable[[Callable[[], Any]], float],
    rate: Callable[[str], float],
) -> Iterator[Measured]:
    """Add `rounds` rounds to `found`, in which every case has one block; yield after each block.

    A case is prepared anew in every round: where its arrays come to lie moves its time, and so varies within a run as
    it does from one run to the next.
    """
    for _ in range(rounds):
        for measured in found:
            run = prepare(measured.case)
            run()  # compiles, and touches the memory
            now = rate(measured.yardstick)
            seconds = measure(run)
            measured.seconds.append(seconds)
            measured.rates.append(now)
            yield measured
