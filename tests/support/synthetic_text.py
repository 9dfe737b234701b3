"""The synthetic language at its default size, and text of it with masks."""
import itertools

import numpy as np

from study.data.synthetic import MASKED, Language

DEFAULT = {"topics": 4, "themes": 6, "general": 30, "topical": 30, "thematic": 8, "mixture": (0.3, 0.35, 0.35),
           "advance": 0.7, "smoothing": 0.3}


def default_language() -> Language:
    return Language(seed=0, **DEFAULT)


def windows(language: Language) -> tuple[np.ndarray, np.ndarray]:
    """True words (300, 62) and the offsets (300,) of these windows inside their documents."""
    _, documents = language.sample(150, 200, seed=7)
    words_of = [list(itertools.chain(*document)) for document in documents]
    rows = [(words[begin:begin + 62], begin) for words in words_of for begin in (0, 124)]
    return np.array([row for row, _ in rows]), np.array([begin for _, begin in rows])


def corrupted(language: Language, truth: np.ndarray, rate: float, mask: float, random: float, seed: int):
    """The words as shown under masks, and which of them are selected; both of the shape of `truth`."""
    rng = np.random.default_rng(seed)
    selected, u = rng.random(truth.shape) < rate, rng.random(truth.shape)
    replacement = rng.integers(len(language.words), size=truth.shape)
    seen = np.where(selected & (u < mask), MASKED, truth)
    return np.where(selected & (u >= mask) & (u < mask + random), replacement, seen), selected
