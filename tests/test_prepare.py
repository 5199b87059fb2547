import numpy as np

from stages.prepare import normalize, stratified_sample

LABELS = np.repeat(np.arange(10, dtype=np.uint8), 50)


def test_each_class_gives_the_same_share() -> None:
    drawn = stratified_sample(LABELS, share=0.1, seed=1)
    assert np.bincount(LABELS[drawn]).tolist() == [5] * 10


def test_the_seed_decides_who_is_drawn() -> None:
    first, again, other = (stratified_sample(LABELS, 0.1, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_normalize_maps_bytes_to_fractions() -> None:
    arrays = normalize(np.array([[[0, 51], [102, 255]]], dtype=np.uint8), LABELS[:1])
    assert arrays.images.shape == (1, 2, 2, 1)
    assert arrays.images.dtype == np.float32
    np.testing.assert_allclose(arrays.images.ravel(), [0, 0.2, 0.4, 1], rtol=1e-7)
    assert arrays.labels.dtype == np.int64
