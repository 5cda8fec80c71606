"""Whether an adapted network is better than the one that it started from, on held-back images.

PSNR can be bought by inventing structure, so that it never decides alone: all rules must hold. The
gain must be certain at the truth's brightness. Both networks guess the brightness, and the error of
the guess, larger than what they differ in, would hide it on few images; as delivered, PSNR must
rise on average.
"""

from typing import NamedTuple

from lle_jax.evaluation import measures, statistics
from lle_jax.evaluation.evaluate import EvaluationResult

ALPHA = 0.05
SPOTS = ("dark_spots_added", "bright_spots_added")
# By how much the spots added may exceed those of the other network: a share of them, and so many
# per megapixel, about what one spot more on one of a few small images makes.
SPOT_SHARE, SPOT_MARGIN = 0.1, 5.0


class Rule(NamedTuple):
    """A rule and its figures, means over the held-back images.

    Attributes:
      metric: of `evaluation.measures.METRICS`.
      demand: in words.
      start, adapted: the two networks' means.
      comparison: paired by image, adapted less start.
      holds: whether it is met.
    """

    metric: str
    demand: str
    start: float
    adapted: float
    comparison: statistics.Comparison
    holds: bool

    def __str__(self) -> str:
        title, _, digits = measures.METRICS[self.metric][:3]
        figures = f"{self.start:.{digits}f} -> {self.adapted:.{digits}f}"
        c = self.comparison
        interval = f"95 % interval {c.low:+.{digits + 1}f} to {c.high:+.{digits + 1}f}"
        return f"{title} {figures} ({interval}, p {c.p:.2g}; {self.demand})"


class Verdict(NamedTuple):
    """The rules of a comparison, and its number of images."""

    rules: tuple[Rule, ...]
    images: int

    @property
    def better(self) -> bool:
        """Tells whether all rules hold."""
        return all(rule.holds for rule in self.rules)

    @property
    def line(self) -> str:
        """Says in one line what was decided, and by which figures."""
        chosen = [str(rule) for rule in self.rules if rule.holds == self.better]
        what = "better" if self.better else "not better, so no release was written"
        return f"{what}; on {self.images} held-back images: {'; '.join(chosen)}"


def decide(result: EvaluationResult, adapted: str, start: str) -> Verdict:
    """Applies the rules to an evaluation of both networks.

    Args:
      result: of both networks.
      adapted, start: the methods' names.
    """
    means = {(s.method, s.metric): s.mean for s in result.summary}
    pairs = {
        c.metric: c for c in result.comparisons if (c.method, c.other) == (adapted, start)
    }  # fmt: skip
    psnr, matched, ssim = pairs["psnr"], pairs["psnr_gt_mean"], pairs["ssim"]
    demands = {
        "psnr": ("must rise", psnr.difference > 0),
        "psnr_gt_mean": (
            f"must rise, interval above 0 and p < {ALPHA}",
            matched.low > 0 and matched.p < ALPHA,
        ),
        "ssim": ("must not fall", ssim.difference >= 0),
    }
    for metric in SPOTS:
        allowed = means[start, metric] * (1 + SPOT_SHARE) + SPOT_MARGIN
        demands[metric] = f"at most {allowed:.0f}", means[adapted, metric] <= allowed
    rules = [
        Rule(metric, demand, means[start, metric], means[adapted, metric], pairs[metric], holds)
        for metric, (demand, holds) in demands.items()
    ]
    return Verdict(tuple(rules), psnr.images)
