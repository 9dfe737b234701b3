"""Scores that need no encoder, TF-IDF and the majority class, and the protocol that they share with the probes."""
from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from study import StudyError
from study.config.schema import Probe, ProbeTask
from study.config.study import Study
from study.data.minimal_pairs import read_pairs
from study.data.pair_scores import Sentences, by_phenomenon, count_scores
from study.data.token_store import TokenStore
from study.data.tokenizer import TokenizerInfo, load
from study.files import write_json

if TYPE_CHECKING:
    from pandas import DataFrame

# Scripts without spaces between words, and scripts whose vowels are marks, at which a word would end: those of India
# and of South-East Asia, Tibetan, Chinese characters and Japanese.
OTHER_SCRIPTS = re.compile("[\u0900-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
                           "\U00020000-\U0003ffff]")
MOST_OTHER = 0.1                            # share of such characters above which a text is in such a script


def read_task(study: Study, task: ProbeTask, split: str):
    """Returns a split of a probe task as a data frame with columns text and label. Raises StudyError if it is missing
    or damaged."""
    import pandas as pd

    path = study.runs / "corpus" / f"probe-{task.name}-{split}.parquet"
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: no usable rows ({' '.join(str(error).split()):.120}); run `study corpus` (or `dvc "
                         f"repro`)") from None


def training_rows(task: ProbeTask, labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Returns the indices of the training rows of each draw, with the classes in the proportions of labels (N,).

    One draw has all rows. More draws depend on the seed, so that the noise of the draw is part of that of the seeds.
    """
    from sklearn.model_selection import train_test_split

    if task.draws == 1:
        return [np.arange(len(labels))]
    states = np.random.default_rng([seed, 20190524]).integers(2**31, size=task.draws).tolist()
    return [np.sort(train_test_split(np.arange(len(labels)), train_size=task.train_rows, stratify=labels,
                                     random_state=state)[0]) for state in states]


def fit_classifier(build, train, train_label, test, test_label, settings: Probe,
                   choose: bool = True) -> tuple[dict, np.ndarray]:
    """Returns the scores of a classifier and its predictions for the test rows, (rows,).

    C of `build(C)` is chosen by cross-validated accuracy on the training rows, with the same folds for every
    classifier. The classifier is then fitted to all training rows, and the test rows are used once. choose: False takes
    the first C without cross-validation.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    folds = StratifiedKFold(settings.folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)      # with a large C, the iteration limit may be reached
        scores = [float(cross_val_score(build(c), train, train_label, cv=folds).mean())
                  for c in settings.regularization] if choose else [None]
        best = int(np.argmax(scores)) if choose else 0
        predicted = build(settings.regularization[best]).fit(train, train_label).predict(test)
    return {"accuracy": float((predicted == test_label).mean()), "c": settings.regularization[best],
            "cv_accuracy": scores[best]}, predicted


def logistic(c: float):
    """Returns a logistic regression with inverse L2 penalty `c`."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=300)


def write_baselines(study: Study, folder: Path) -> dict:
    """Writes baselines.json and returns its content: the scores of TF-IDF and of the majority class on each task. In a
    study with minimal pairs, also writes minimal_pairs.json.

    TF-IDF has as many training rows as a probe has.
    """
    result = {}
    for task in study.settings.probe.tasks:
        train, test = read_task(study, task, "train"), read_task(study, task, "test")
        train = train.iloc[training_rows(task, train.label.to_numpy(), 0)[0]]
        majority = float((test.label == train.label.mode()[0]).mean())
        result[task.name] = {"tfidf": _tfidf(study, task, train, test), "majority": {"accuracy": majority}}
    write_json(folder / "baselines.json", result)
    if study.settings.evaluation.minimal_pairs:
        write_json(folder / "minimal_pairs.json", pair_baselines(study, TokenStore.open(folder / "train")))
    return result


def _tfidf(study: Study, task: ProbeTask, train: DataFrame, test: DataFrame) -> dict:
    """The scores of TF-IDF on a task. Its words are sequences of at least two letters or digits; where words are not
    found so (OTHER_SCRIPTS), they are the pieces of the study's tokenizer.

    The features are not standardised, so logistic regression gets a hundred times the C of the probes.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    texts, options = [train.text.to_numpy(), test.text.to_numpy()], {}
    if in_other_script(texts[0]):
        backend, options = load(study.runs / "tokenizer"), {"analyzer": str.split}
        encoded = [backend.encode_batch(part.tolist(), add_special_tokens=False) for part in texts]
        texts = [np.array([" ".join(text.tokens) for text in part], object) for part in encoded]
    try:
        return fit_classifier(lambda c: make_pipeline(TfidfVectorizer(sublinear_tf=True, **options), logistic(100 * c)),
                              texts[0], train.label.to_numpy(), texts[1], test.label.to_numpy(),
                              study.settings.probe)[0]
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        raise StudyError(f"{study.params_path}: probe.tasks: {task.name}: the training texts have no words that TF-IDF "
                         f"could count; check the column {task.text!r}") from None


def in_other_script(texts: Sequence[str]) -> bool:
    """Returns whether more than MOST_OTHER of the characters belong to OTHER_SCRIPTS."""
    return sum(len(OTHER_SCRIPTS.findall(text)) for text in texts) > MOST_OTHER * sum(map(len, texts))


def pair_baselines(study: Study, train: TokenStore) -> dict:
    """Returns what word frequencies and bigrams of the training text reach on each task of minimal pairs: task ->
    baseline -> accuracy, and accuracy and pairs of each phenomenon."""
    backend, result = load(study.runs / "tokenizer"), {}
    for task in study.settings.evaluation.minimal_pairs:
        pairs = read_pairs(study, task)
        sentences = Sentences(pairs, backend, study.settings.examples.max_seq_length)
        result[task.name] = {}
        for name, scores in count_scores(sentences.ids, train.ids, TokenizerInfo.of(backend)).items():
            correct = sentences.correct(scores)
            result[task.name][name] = {"accuracy": float(correct.mean()),
                                       "by_phenomenon": by_phenomenon(correct, pairs.phenomenon)}
    return result
