"""Is the difference between two models' answers more than chance?"""

from scipy.special import bdtr


def mcnemar(lost: int, won: int) -> float:
    """Exact one-sided McNemar test (McNemar 1947, https://doi.org/10.1007/BF02295996) of whether a
    model is worse than another on the same images.

    `lost` images only the other model gets right, `won` only this one. Returns the probability, in
    [0, 1], of losing at least that many out of `lost + won` if each was as likely to be won.
    """
    return float(bdtr(won, lost + won, 0.5))
