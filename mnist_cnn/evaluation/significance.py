"""Test whether the difference between two models is significant."""

from scipy.special import bdtr


def mcnemar(lost: int, won: int) -> float:
    """Run an exact one-sided McNemar test (McNemar 1947, https://doi.org/10.1007/BF02295996) of
    whether a model is worse than another on the same images.

    Only the other model gets `lost` images right, and only this one gets `won` right. Returns the
    p-value, in [0, 1]: the probability of `lost` or more losses if both are equally likely.
    """
    return float(bdtr(won, lost + won, 0.5))
