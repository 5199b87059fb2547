"""Tell ink from its background."""

import cv2
import numpy as np
import pytest

from mnist_cnn.reading.ink import Grey, find_ink
from tests.reading.helpers import SEVEN, drawing

SHAPE = (240, 240)
STROKES = np.asarray(drawing([(2 * x, 2 * y) for x, y in SEVEN], size=SHAPE)) < 128
INK = 0.3 * STROKES.astype(np.float32)  # how much darker the strokes are


def wrong(grey: Grey, widest_stroke: float | None) -> float:
    """Return the number of pixels on the wrong side, as a share of the strokes."""
    return float(((find_ink(grey, widest_stroke) > 0.5) != STROKES).sum() / STROKES.sum())


@pytest.mark.parametrize("widest_stroke", [None, 0.1])
@pytest.mark.parametrize("dark", [False, True])
def test_ink_is_darker_or_lighter_than_paper(dark: bool, widest_stroke: float | None) -> None:
    assert wrong(0.6 - INK if dark else 0.4 + INK, widest_stroke) < 0.1


@pytest.mark.parametrize("widest_stroke", [None, 0.1])
def test_uneven_light_and_noise(widest_stroke: float | None) -> None:
    light = np.linspace(1, 0.4, 240) * np.linspace(1, 0.8, 240)[:, np.newaxis]
    noise = np.random.default_rng(0).normal(0, 0.02, SHAPE)
    assert wrong(((0.95 - 2 * INK) * light + noise).astype(np.float32), widest_stroke) < 0.1


def test_a_shadow_with_a_hard_edge_is_not_ink() -> None:
    paper = np.full(SHAPE, 0.9, np.float32)
    paper[:, 150:] = 0.45
    assert wrong(paper - INK * paper, widest_stroke=0.1) < 0.1
    assert wrong(paper - INK * paper, widest_stroke=None) > 1


def test_rules_are_not_ink() -> None:
    paper = np.full(SHAPE, 0.9, np.float32)
    paper[15::30] = paper[16::30] = 0.5
    assert wrong(np.minimum(paper, 0.9 - 2 * INK), widest_stroke=0.1) < 0.15
    assert wrong(np.minimum(paper, 0.9 - 2 * INK), widest_stroke=None) > 0.3


def test_a_stroke_along_a_rule_stays() -> None:
    ink = np.zeros(SHAPE, np.float32)
    ink[59:62, 90:150] = ink[59:150, 140:150] = 1
    paper = np.full(SHAPE, 0.9, np.float32)
    paper[29::30] = paper[30::30] = paper[31::30] = 0.7
    found = find_ink(paper * (1 - 0.7 * ink), widest_stroke=0.1) > 0.5
    assert (found != (ink > 0)).sum() < 0.1 * ink.sum()


def test_a_rule_behind_a_wide_digit_is_not_ink() -> None:
    ink = np.zeros(SHAPE, np.float32)
    cv2.rectangle(ink, (140, 70), (170, 137), 1, -1)
    paper = np.full(SHAPE, 0.9, np.float32)
    paper[29::30] = paper[30::30] = paper[31::30] = 0.6
    found = find_ink(paper * (1 - 0.7 * ink), widest_stroke=0.3) > 0.5
    assert (found != (ink > 0)).sum() < 0.1 * ink.sum()


@pytest.mark.parametrize("widest_stroke", [None, 0.1])
def test_an_empty_picture_has_no_ink(widest_stroke: float | None) -> None:
    assert not find_ink(np.full((40, 40), 0.5, np.float32), widest_stroke).any()
    assert not find_ink(np.full((90, 90), 0.5, np.float32), widest_stroke).any()


@pytest.mark.parametrize("widest_stroke", [None, 0.1])
def test_noise_is_not_ink(widest_stroke: float | None) -> None:
    noise = np.random.default_rng(1).normal(0.5, 0.08, (300, 300))
    assert not find_ink(noise.astype(np.float32), widest_stroke).any()
