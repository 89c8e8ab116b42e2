"""The rules by which the reports' claims are judged, written down here and nowhere else.

    of_pair(study.compare("ndcg@10", [("NCF", "Popularity")]), "NCF", "Popularity")
    of_number(ledger.near("S0-joint-accuracy", accuracy))
    of_all([of_fact(share > 0.5), of_pair(pairs, "FM", "Bias")])

Each claim of `reports/references.csv` has a kind:

- *comparison*: one thing is better than another. Confirmed where the adjusted interval lies on the claimed side, else refuted where
  it lies on the other side or the two are equivalent within the margin, else undecided. Adjusted: a 95 % interval counts as on one
  side only where p, adjusted by Holm's method over all pairs that its chapter compares, is below 5 %; intervals without a p are
  made at a level that is adjusted by Bonferroni's method (`adjusted_tail`). Equivalent: the 90 % interval of that pair lies
  within ± margin (two one-sided tests at 5 %, Schuirmann 1987), or the 95 % interval where no other is at hand.
- *number*: the outcome of an experiment. Confirmed within a tolerance that is fixed beforehand (`Ledger.near`), else not
  reproducible: it was attempted and is off.
- *fact*: what can be counted in the data, in a report or by arithmetic. Confirmed where it is so, else refuted. A count is exact,
  or as exact as its printed digits, for which references.csv has a tolerance, too.

Of a claim with several conjuncts each is judged by its own rule, see `of_all`. A claim about other data is not testable here,
unless it was tested on those data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from IPython.display import Markdown
from scipy import special

from pipeline.chapters.comparisons import ERRORS, LEVEL, Comparison
from pipeline.chapters.crossed import MARGIN
from recsys_core.errors import StudyError
from recsys_core.statistics import percentile_interval

CONFIRMED, PARTLY, REFUTED, UNDECIDED = "confirmed", "partly", "refuted", "undecided"
NOT_REPRODUCIBLE, NOT_TESTABLE, PENDING = "not reproducible", "not testable here", "pending"
VERDICTS = (CONFIRMED, PARTLY, REFUTED, UNDECIDED, NOT_REPRODUCIBLE, NOT_TESTABLE, PENDING)
TESTED = (CONFIRMED, PARTLY, REFUTED, UNDECIDED, NOT_REPRODUCIBLE)  # what percentages are of

COMPARISON, NUMBER, FACT = "comparison", "number", "fact"
KINDS = (COMPARISON, NUMBER, FACT)
WITHIN = 0.05  # of the reported number: the tolerance of numbers, where references.csv has no other
STARS_MARGIN = 0.005  # of RMSE in stars
ERROR_MARGIN = 0.01  # stars², of squared errors: at the study's RMSE of .9 to 1 about STARS_MARGIN of RMSE


@dataclass(frozen=True)
class Verdict:
    """A verdict and the kinds of the rules that it was made by."""

    word: str
    kinds: frozenset[str]


NOT_TESTABLE_HERE = Verdict(NOT_TESTABLE, frozenset(KINDS))


def of_fact(holds: object, otherwise: object = True) -> Verdict:
    """Confirmed where it holds, refuted where it does not; undecided where `otherwise`, what refutes it, does not hold either."""
    return Verdict(CONFIRMED if holds else REFUTED if otherwise else UNDECIDED, frozenset([FACT]))


def of_number(near: object) -> Verdict:
    """Confirmed where the measured number is near the reported one, see `Ledger.near`, else not reproducible."""
    return Verdict(CONFIRMED if near else NOT_REPRODUCIBLE, frozenset([NUMBER]))


def of_interval(
    low: float, high: float, margin: float, inner: tuple[float, float] | None = None, p: float = 0.0
) -> Verdict:
    """Whether a difference is above 0, by its adjusted interval; `inner` is the 90 % interval, for equivalence within ± `margin`.

    An interval that is not adjusted comes with its adjusted p: where that is not below 5 %, the interval counts as reaching 0.
    Raises StudyError where there is no interval, where it is the wrong way round, and for a margin that is not above 0.
    """
    ends = [low, high, *(inner or ())]
    if not np.isfinite([*ends, p]).all():
        raise StudyError("A comparison is judged by the interval of its difference, and there is none.")
    if low > high or not margin > 0:
        raise StudyError(f"A comparison needs an interval, not {low} to {high}, and a margin above 0, not {margin}.")
    if p >= LEVEL:
        low, high = min(low, 0.0), max(high, 0.0)
    least, most = inner or (low, high)
    is_beaten = high < 0 or (-margin < least and most < margin)
    return Verdict(CONFIRMED if low > 0 else REFUTED if is_beaten else UNDECIDED, frozenset([COMPARISON]))


def of_pair(pairs: Comparison, model: str, rival: str, margin: float | None = None) -> Verdict:
    """Whether a model is better than a rival, by their line in a `Comparison`; without a `margin`, by that of its metric."""
    line, inner = pairs.line(model, rival), pairs.inner_interval(model, rival)
    low, high = (float(line[end]) for end in ("low", "high"))
    if pairs.metric in ERRORS:
        low, high = -high, -low
        inner = inner and (-inner[1], -inner[0])
    return of_interval(low, high, margin_of(pairs.metric) if margin is None else margin, inner, float(line["p"]))


def margin_of(metric: str) -> float:
    """What is nearer to 0 is equivalent: `MARGIN` of metrics from 0 to 1 such as NDCG@10, `ERROR_MARGIN` of squared errors."""
    return ERROR_MARGIN if metric in ERRORS else MARGIN


def of_runs(differences: Iterable[float], margin: float, n_compared: int = 1) -> Verdict:
    """Whether differences of paired runs, one a seed or a split, are above 0: by the t interval of their mean.

    The level is adjusted for `n_compared` comparisons. Raises StudyError for fewer than two runs, of which there is no interval.
    """
    values = np.asarray([*differences], float)
    if len(values) < 2:
        raise StudyError(f"{len(values)} run{'' if len(values) == 1 else 's'}: an interval needs two or more.")
    reach = special.stdtrit(len(values) - 1, 1 - adjusted_tail(n_compared)) * values.std(ddof=1) / np.sqrt(len(values))
    inner = special.stdtrit(len(values) - 1, 1 - LEVEL) * values.std(ddof=1) / np.sqrt(len(values))
    mean = float(values.mean())
    return of_interval(mean - reach, mean + reach, margin, (mean - inner, mean + inner))


def of_draws(draws: np.ndarray, margin: float, n_compared: int = 1) -> Verdict:
    """Whether a difference is above 0, by its (n_resamples,) bootstrap draws; adjusted for `n_compared` comparisons."""
    low, high = percentile_interval(draws, 1 - 2 * adjusted_tail(n_compared))
    least, most = percentile_interval(draws, 1 - 2 * LEVEL)
    return of_interval(float(low), float(high), margin, (float(least), float(most)))


def adjusted_tail(n_compared: int) -> float:
    """What a 95 % interval, adjusted for so many comparisons by Bonferroni's method, leaves out on either side."""
    return LEVEL / 2 / n_compared


def denied(verdict: Verdict) -> Verdict:
    """The verdict on the opposite of a claim, such as "no better": confirmed and refuted change places, the others stay."""
    opposite = {CONFIRMED: REFUTED, REFUTED: CONFIRMED}
    return replace(verdict, word=opposite.get(verdict.word, verdict.word))


def of_all(parts: Iterable[Verdict]) -> Verdict:
    """The verdict on a claim that says several things at once.

    What all parts have in common; partly where some are confirmed and others are not; where none is, refuted if one is refuted,
    else undecided if one is, else not reproducible. Raises StudyError where there is no part.
    """
    verdicts = [*parts]
    words = {verdict.word for verdict in verdicts}
    if not words:
        raise StudyError("A claim with several conjuncts needs at least one that was judged.")
    none_holds = (word for word in (REFUTED, UNDECIDED, NOT_REPRODUCIBLE) if word in words)
    word = words.pop() if len(words) == 1 else PARTLY if words & {CONFIRMED, PARTLY} else next(none_holds)
    return Verdict(word, frozenset().union(*(verdict.kinds for verdict in verdicts)))


def rules() -> Markdown:
    """The rules in words, to read, a line for each kind of claim."""
    margins = f"± {MARGIN:g} of metrics from 0 to 1, {STARS_MARGIN:g} stars of RMSE, {ERROR_MARGIN:g} stars² of squared errors"
    lines = {
        COMPARISON: (
            "the adjusted 95 % interval of the difference lies on the claimed side",
            f"*{REFUTED}* if on the other side, or equivalent: the 90 % interval within {margins}; else *{UNDECIDED}*",
        ),
        NUMBER: (
            f"measured again within {WITHIN:.0%} of what was reported, or within the tolerance in `reports/references.csv`",
            f"*{NOT_REPRODUCIBLE}*: attempted, and off",
        ),
        FACT: (
            "counted in the data, in the report or by arithmetic it is so, to the digits that are printed",
            f"*{REFUTED}*; where the count leaves a vague word open, *{UNDECIDED}*",
        ),
        "several at once": (
            "each conjunct is, by the rule for its kind",
            f"*{PARTLY}* if some are; else as the conjuncts",
        ),
        "about other data": (
            "–",
            f"*{NOT_TESTABLE}*: other data or machines than are at hand, or what no rating tells",
        ),
    }
    rows = [f"| {kind} | {holds} | {fails} |" for kind, (holds, fails) in lines.items()]
    return Markdown("\n".join(["| A claim is a | *confirmed* where | otherwise |", "|---|---|---|", *rows]))
