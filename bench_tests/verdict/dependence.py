"""What requests share with those beside them, and how many of n then lie over a limit by chance.

In a closed loop the requests of one wave go through the server together: when one is late, so are others. A count of
those over a limit then scatters more than a binomial one. How much more is taken from the requests themselves, at the
quantile that is judged; the count's distribution follows from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["INDEPENDENT", "Dependence", "chance_of_at_least", "chance_of_at_most", "count_at", "dependence"]

Floats = NDArray[np.float64]
FEWEST_BLOCKS = 10  # a longer block must leave so many, or its correlation is a guess
LONGER = 1.5  # standard errors by which a block of twice the length must be worth less
PERSISTS = 1.64  # standard errors of the correlation of neighbouring blocks: a one-sided test at 5 %
FAR = 1e-4  # the chance with which a slow drift that is still believed would take a request across the limit
DEEPER = (5, 10)  # times the share of those over: how deep the tail is looked into for how it is bound together
DOUBT = 0.1  # the chance that waves share more than is taken carefully, where they share a normal part
OFFSETS = 4  # places at which a wave may begin: those that failed are gone from the order of sending
STEP = 0.005  # the correlation is rounded up to this: the distributions of counts are kept


@dataclass(frozen=True)
class Dependence:
    """Blocks of `block` requests in the order of sending; within one, being over the limit has the correlation `icc`."""

    block: int = 1
    icc: float = 0.0

    @property
    def design(self) -> float:
        """By what factor n requests are worth less (Kish 1965). Formula: 1 + (block − 1)·icc."""
        return 1 + (self.block - 1) * self.icc


INDEPENDENT = Dependence()


def _icc(values: Floats, block: int) -> float:
    """Intraclass correlation of consecutive blocks (one-way analysis of variance); 0 when there are fewer than three."""
    count = len(values) // block
    if block < 2 or count < 3:
        return 0.0
    table = values[: count * block].reshape(count, block)
    between, within = block * float(table.mean(axis=1).var(ddof=1)), float(table.var(axis=1, ddof=1).mean())
    total = between + (block - 1) * within
    return max(0.0, (between - within) / total) if total > 0 else 0.0


def _exceedance_icc(rho: float, share: float) -> float:
    """Correlation of "over" of two requests whose normal scores have the correlation `rho`; `share`: of those over.

    Formula: ∫_0^ρ exp(−z² / (1 + t)) / (2π·√(1 − t²)) dt / (share·(1 − share)), z the normal quantile of 1 − share
    (the bivariate normal's orthant, Plackett 1954), by Gauss–Legendre quadrature in arcsin t.
    """
    from scipy.special import ndtri

    if rho <= 0:
        return 0.0
    z, end = float(ndtri(1 - share)), math.asin(min(rho, 1.0))
    nodes, weights = np.polynomial.legendre.leggauss(24)
    angle = end * (nodes + 1) / 2
    return float(end / 2 * (weights @ np.exp(-z * z / (1 + np.sin(angle)))) / (2 * math.pi) / (share * (1 - share)))


@lru_cache(maxsize=64)
def _exceedance_iccs(share: float) -> tuple[Floats, Floats]:
    rho = np.linspace(0, 1, 101)
    return rho, np.array([_exceedance_icc(float(r), share) for r in rho])


def _score_correlation(icc: float, share: float) -> float:
    """The inverse of `_exceedance_icc`: the correlation of normal scores of which `icc` is that of "over"."""
    rho, found = _exceedance_iccs(share)
    return float(np.interp(icc, found, rho))


def _at_most(rho: float, count: int, block: int) -> float:
    """Upper confidence limit (chance of being below the truth: DOUBT) of an intraclass correlation of `count` blocks.

    Formula: (F/f − 1) / (F/f + b − 1) with F = (1 + (b − 1)·ρ) / (1 − ρ) of blocks of b, the analysis of variance's, and
    f the DOUBT quantile of F(count − 1, count·(b − 1)) (Searle 1971).
    """
    from scipy.special import fdtri

    if rho <= 0 or rho >= 1 or count < 2:
        return rho
    ratio = (1 + (block - 1) * rho) / (1 - rho) / float(fdtri(count - 1, count * (block - 1), DOUBT))
    return (ratio - 1) / (ratio + block - 1)


def _normal_scores(values: Floats) -> Floats:
    from scipy.special import ndtri

    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return np.asarray(ndtri((ranks + 0.5) / len(values)))


def _persistence(scores: Floats, block: int) -> int:
    """How many blocks in a row share their fate. Formula: (1 + φ) / (1 − φ), φ the lag-1 correlation of block means."""
    count = len(scores) // block
    if count < 5:
        return 1
    means = scores[: count * block].reshape(count, block).mean(axis=1)
    means = means - means.mean()
    if not (total := float(means @ means)) > 0:
        return 1
    phi = float(means[1:] @ means[:-1]) / total
    if phi + 1 / count < PERSISTS / math.sqrt(count):
        return 1
    phi = min((phi * count + 1) / (count - 3), 0.95)  # its bias in few blocks: −(1 + 3φ) / count (Kendall 1954)
    return max(1, math.ceil((1 + phi) / (1 - phi) - 0.5))


def _drifts_across(values: Floats, block: int, limit: float) -> bool:
    """Whether blocks that move as these did may take requests from one side of `limit` to the other.

    Formula: min − r ≤ limit ≤ max + r with r = t(1 − FAR, b/2 − 1)·2·s·√(1 + 2/b), s the standard deviation of the b
    block means: the prediction interval of one further block's mean, laid around all requests, for means of which each
    is tied to its neighbour (half as many, and a range of which half was seen).
    """
    from scipy.special import stdtrit

    count = len(values) // block
    means = values[: count * block].reshape(count, block).mean(axis=1)
    spread = 2 * float(means.std(ddof=1)) * math.sqrt(1 + 2 / count)
    reach = float(stdtrit(max(1.0, count / 2 - 1), 1 - FAR)) * spread
    return bool(values.min() - reach <= limit <= values.max() + reach)


def dependence(values: Floats, q: float, block: int, limit: float | None = None, careful: bool = False) -> Dependence:
    """What requests share that were sent one after the other, as far as the q-quantile is concerned.

    `values`: in the order of sending, shape (n,); `block`: how many go through the server together (the concurrency of
    a closed loop). The correlation of "over" is the largest of three: of those over the sample's own q-quantile, where
    the count would be if the limit were true; of those over `limit`; and what the correlation of all values (of their
    normal scores) means so far out. The first two see a tail that is bound together more tightly than the rest, the
    third what a few requests in the tail are too few to show. Blocks grow while that makes n worth clearly less, and by
    the correlation of neighbouring blocks where it is significant: a drift slower than a wave. Not where that drift is
    too small to take any request across the limit: requests over it then come and go with their waves.
    `careful`: the third is the upper confidence limit of the largest of what the scores and the tail further in say,
    because few waves that happen to be alike would otherwise pass for independent ones.
    Fewer than three blocks say nothing: independent.
    """
    if len(values) < 3 * block or values.min() == values.max():
        return INDEPENDENT
    scores, n, share, wave = _normal_scores(values), len(values), 1 - q, block
    design, longer = 1 + (block - 1) * _icc(scores, block), block * 2
    while n // longer >= FEWEST_BLOCKS:
        found = 1 + (longer - 1) * _icc(scores, longer)
        if found > design * (1 + LONGER * math.sqrt(2 / (n // longer - 1))):
            block, design = longer, found
        longer *= 2
    persistence = _persistence(scores, block)
    if limit is not None and block * persistence > wave and not _drifts_across(values, block, limit):
        block, persistence = wave, 1
    if block == 1:
        return INDEPENDENT
    starts = sorted({block * k // OFFSETS for k in range(min(OFFSETS, block))})
    rho, start = max((_icc(scores[begin:], block), -begin) for begin in starts if n - begin >= 3 * block)
    cuts = [float(np.partition(values, int(n * q) - 1)[int(n * q) - 1])] if int(n * q) else []
    cuts += [] if limit is None else [limit]
    over = [_icc((values > cut).astype(np.float64)[-start:], block) for cut in cuts]
    if careful:
        for deep in (times * share for times in DEEPER if times * share <= 0.5):
            above = values > np.partition(values, -int(n * deep) - 1)[-int(n * deep) - 1]
            rho = max(rho, _score_correlation(_icc(above.astype(np.float64)[-start:], block), deep))
        rho = _at_most(rho, max(2, (n + start) // (block * persistence)), block)
    icc = max(_exceedance_icc(rho, min(share, q)), *over, 0.0)
    return Dependence(block * persistence, min(math.ceil(icc / STEP - 1e-9) * STEP, 1 - STEP))


# ---------------------------------------------------------------------------------------------------------- the count


@lru_cache(maxsize=512)
def _block_counts(block: int, share: float, icc: float) -> Floats:
    """P(k of a block are over), shape (block + 1,): beta-binomial with the mean `share` and the correlation `icc`."""
    from scipy.special import betaln, gammaln

    k = np.arange(block + 1)
    scale = 1 / icc - 1
    a, b = share * scale, (1 - share) * scale
    ways = gammaln(block + 1) - gammaln(k + 1) - gammaln(block - k + 1)
    return np.asarray(np.exp(ways + betaln(k + a, block - k + b) - betaln(a, b)))


@lru_cache(maxsize=256)
def _cumulated(n: int, share: float, block: int, icc: float) -> Floats:
    """P(at most k of n are over), shape (n + 1,): the blocks are independent, the last one may be short."""
    whole, rest = divmod(n, block)
    size = 1 << (n + 1).bit_length()
    spectrum = np.fft.rfft(_block_counts(block, share, icc), size) ** whole
    if rest:
        spectrum = spectrum * np.fft.rfft(_block_counts(rest, share, icc), size)
    return np.clip(np.cumsum(np.fft.irfft(spectrum, size)[: n + 1]), 0.0, 1.0)


def chance_of_at_most(over: float, n: int, share: float, of: Dependence = INDEPENDENT) -> float:
    """P(so many or fewer of n are over | in truth `share` are); fractional counts lie between the whole ones."""
    from scipy.special import betaincc

    if over >= n:
        return 1.0
    if of.block == 1 or of.icc <= 0:
        return float(betaincc(over + 1, n - over, share))
    return float(np.interp(over, np.arange(n + 1), _cumulated(n, share, of.block, of.icc)))


def chance_of_at_least(over: float, n: int, share: float, of: Dependence = INDEPENDENT) -> float:
    """P(so many or more of n are over | in truth `share` are)."""
    from scipy.special import betainc

    if over <= 0:
        return 1.0
    if of.block == 1 or of.icc <= 0:
        return float(betainc(over, n - over + 1, share))
    below = np.concatenate([[0.0], _cumulated(n, share, of.block, of.icc)])  # P(fewer than k)
    return float(1 - np.interp(over, np.arange(n + 2), below))


def count_at(n: int, share: float, of: Dependence, tail: float, upper: bool) -> float | None:
    """The count (fractional) at which the chance of so few (`upper`: so many) is `tail`; None when there is none."""
    chances = _cumulated(n, share, of.block, of.icc)
    if upper:
        chances = np.concatenate([[0.0], chances])[: n + 1]  # P(fewer than k) = 1 − P(at least k)
        return float(np.interp(1 - tail, chances, np.arange(n + 1))) if chances[-1] >= 1 - tail else None
    return float(np.interp(tail, chances, np.arange(n + 1))) if chances[0] <= tail else None
