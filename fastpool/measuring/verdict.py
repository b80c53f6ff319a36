"""Whether one set of times is longer than another: distribution-free intervals of a ratio, and a verdict.

Times have long tails and no known distribution, so nothing here assumes one. Intervals come from ranks alone, and are
as wide as the number of rounds makes them: where there are too few rounds for the confidence, they are infinite.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: Probability that an interval holds the true ratio; one case of a hundred may lie outside.
CONFIDENCE = 0.99
#: Smallest change of a time that counts: placement of code and data alone moves times by a few percent.
THRESHOLD = 0.05


@dataclass(frozen=True)
class Ratio:
    """A new time divided by an old one, and its interval of confidence."""

    value: float
    low: float
    high: float

    def verdict(self, threshold: float = THRESHOLD) -> str:
        """Return "slower" or "faster" where the whole interval says so by more than the threshold, "same", "unclear".

        "same" means that the whole interval lies within the threshold; "unclear", that it reaches beyond it.
        """
        if self.low > 1 + threshold:
            return "slower"
        if self.high < 1 / (1 + threshold):
            return "faster"
        within = self.low >= 1 / (1 + threshold) and self.high <= 1 + threshold
        return "same" if within else "unclear"


def paired_ratio(new: Sequence[float], old: Sequence[float], confidence: float = CONFIDENCE) -> Ratio:
    """Median of the ratios of rounds that were measured in turns, with the interval of the sign test.

    Whatever slows both sides of a round cancels.
    """
    ratios = sorted(a / b for a, b in zip(new, old, strict=True))
    n = len(ratios)
    allowed, tail, rank = (1 - confidence) / 2 * 2**n, 0, 0
    while rank < n and (tail := tail + math.comb(n, rank)) <= allowed:
        rank += 1  # so many of the smallest, and of the largest, lie outside
    if rank == 0:
        return Ratio(statistics.median(ratios), 0.0, math.inf)
    return Ratio(statistics.median(ratios), ratios[rank - 1], ratios[n - rank])


def unpaired_ratio(new: Sequence[float], old: Sequence[float], confidence: float = CONFIDENCE) -> Ratio:
    """Median of all ratios between rounds of two runs, with the interval of the rank-sum test (Mann and Whitney)."""
    ratios = sorted(a / b for a in new for b in old)
    ways = _rank_sums(len(new), len(old))
    allowed, tail, rank = (1 - confidence) / 2 * sum(ways), 0, 0
    while rank < len(ways) and (tail := tail + ways[rank]) <= allowed:
        rank += 1
    if rank == 0:
        return Ratio(statistics.median(ratios), 0.0, math.inf)
    return Ratio(statistics.median(ratios), ratios[rank - 1], ratios[len(ratios) - rank])


def _rank_sums(n: int, m: int) -> list[int]:
    """For each u, the orders of n and m values in which u pairs stand the wrong way round.

    These are the coefficients of the Gaussian binomial: the product of (1 - q**(m+i)) / (1 - q**i), i from 1 to n.
    """
    ways = [1]
    for i in range(1, n + 1):
        raised = ways + [0] * (m + i)
        for index, count in enumerate(ways):
            raised[index + m + i] -= count
        for index in range(i, len(raised)):
            raised[index] += raised[index - i]
        ways = raised[: i * m + 1]
    return ways
