"""Embeddings from counts: words with the same neighbours are alike."""
import numpy as np
import pytest

from study.data.count_embeddings import count_embeddings


@pytest.fixture(scope="module")
def vectors():
    """Words 0 to 9 are followed by 10 to 14, words 20 to 29 by 30 to 34; word 39 does not occur."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 10, 5000), rng.integers(0, 5, 5000) + 10
    shift = 20 * rng.integers(0, 2, 5000)
    text = np.stack([first + shift, second + shift], 1).reshape(-1)
    return count_embeddings(text, 40, 4)


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_words_with_the_same_neighbours_have_similar_vectors(vectors):
    alike = [cosine(vectors[i], vectors[j]) for i in range(10) for j in range(i)]
    different = [cosine(vectors[i], vectors[j]) for i in range(10) for j in range(20, 30)]
    assert min(alike) > 0.9
    assert max(different) < 0.5


def test_their_size_is_one_and_words_outside_the_text_are_zero(vectors):
    assert vectors.shape == (40, 4)
    assert float(np.sqrt(np.mean(vectors**2))) == pytest.approx(1, rel=1e-5)
    assert not vectors[39].any()


def test_equal_counts_give_equal_vectors(vectors):
    rng = np.random.default_rng(0)
    text = rng.integers(0, 40, 2000)
    assert np.array_equal(count_embeddings(text, 40, 4), count_embeddings(text, 40, 4))


def test_they_are_those_of_the_formula():
    """Positive pointwise mutual information with both neighbours, its left singular vectors times the root of the
    singular values."""
    text, size = np.random.default_rng(1).integers(0, 12, 400), 12
    counts = np.zeros((size, 2 * size))
    for left, right in zip(text, text[1:], strict=False):
        counts[right, left] += 1
        counts[left, size + right] += 1
    smoothed = counts.sum(0) ** 0.75
    with np.errstate(divide="ignore"):
        information = np.log(counts * smoothed.sum() / (counts.sum(1)[:, None] * smoothed))
    left, values, _ = np.linalg.svd(np.maximum(information, 0))
    expected = left[:, :3] * np.sqrt(values[:3])
    expected /= np.sqrt(np.mean(expected**2))
    vectors = count_embeddings(text, size, 3)[:, ::-1]          # the smallest singular value comes first
    assert np.abs(np.sum(vectors * expected, 0)) == pytest.approx(np.sum(expected**2, 0), rel=1e-3)
