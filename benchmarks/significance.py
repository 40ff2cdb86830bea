"""Whether two samples differ by more than chance: Mann-Whitney's U and Welch's t, for large ones.

With a thousand values and more a side both statistics are normally distributed, near enough.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, variance


@dataclass(frozen=True, slots=True)
class Statistic:
    """A statistic in standard deviations, and how likely one as large is if nothing differs."""

    value: float
    p: float


def mann_whitney(left: Sequence[float], right: Sequence[float]) -> Statistic:
    """Compare where the values lie, whatever their distribution; few slow ones don't matter.

    The normal approximation of U with its correction for ties.
    """
    both = sorted([(value, 0) for value in left] + [(value, 1) for value in right])
    total = len(both)
    rank_sum, ties, before = 0.0, 0.0, 0
    for _value, group in groupby(both, key=lambda each: each[0]):
        sides = [side for _, side in group]
        count = len(sides)
        # All of a tie have the mean of its ranks.
        rank_sum += sides.count(0) * (before + (count + 1) / 2)
        ties += count**3 - count
        before += count
    u = rank_sum - len(left) * (len(left) + 1) / 2
    product = len(left) * len(right)
    deviation = math.sqrt(product / 12 * (total + 1 - ties / (total * (total - 1))))
    return _statistic((u - product / 2) / deviation)


def welch(left: Sequence[float], right: Sequence[float]) -> Statistic:
    """Compare the means, with a variance for each side."""
    error = math.sqrt(variance(left) / len(left) + variance(right) / len(right))
    return _statistic((fmean(left) - fmean(right)) / error)


def _statistic(value: float) -> Statistic:
    return Statistic(value, math.erfc(abs(value) / math.sqrt(2)))
