"""The synthetic language at its default size, and text of it with masks."""
import itertools

import numpy as np

from study.data.synthetic import END, MASKED, Language

DEFAULT = {"topics": 4, "themes": 6, "general": 30, "topical": 30, "thematic": 8, "mixture": (0.3, 0.35, 0.35),
           "advance": 0.7, "smoothing": 0.3}


def default_language() -> Language:
    return Language(seed=0, **DEFAULT)


def small_language() -> Language:
    """The same mathematics at a size that can be enumerated: 2 topics, 2 themes, 3 grammar states, 4 words."""
    rng = np.random.default_rng(3)
    language = Language(seed=0, topics=2, themes=2, general=1, topical=1, thematic=1, mixture=(0.3, 0.35, 0.35),
                        advance=0.7, smoothing=0.3)
    states = language.grammar.shape[0]
    keep = [0, 1, END]
    grammar = np.zeros((states, states))
    grammar[np.ix_(keep, keep)] = rng.dirichlet(np.ones(3), 3)
    language.grammar = grammar
    language.words = ["a", "b", "c", "d"]
    language.emission = rng.dirichlet(np.ones(4), (2, 2, states))
    start = np.zeros((2, 2, states))
    start[..., keep] = grammar[END][keep] / 4
    language._priors = [start]
    return language


def dense_chain(language: Language) -> tuple[list[tuple], np.ndarray, np.ndarray]:
    """All states, the distribution of the first, and the full transition matrix; shares no code with the language."""
    topics, themes, kinds = language.emission.shape[:3]
    states = list(itertools.product(range(topics), range(themes), range(kinds)))
    start = np.array([language.grammar[END, k] / (topics * themes) for _, _, k in states])
    transition = np.zeros((len(states), len(states)))
    for i, (z, m, k) in enumerate(states):
        for j, (y, n, h) in enumerate(states):
            turned = (1 - language.advance) * (n == m) + language.advance * (n == (m + 1) % themes)
            transition[i, j] = (z == y) * (turned if k == END else m == n) * language.grammar[k, h]
    return states, start, transition


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
