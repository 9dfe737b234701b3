"""The corpus stage of a synthetic study: documents of the built-in language, and its topics as a probe task.

Besides the files of corpus.py it writes `lexicon.txt`, the words of the language in the order of their ids.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from study.config.schema import Synthetic
from study.config.study import Study
from study.data.corpus import SPLITS, Document, write_corpus
from study.data.synthetic import Language

if TYPE_CHECKING:
    from pandas import DataFrame


def write_synthetic_corpus(study: Study, folder: Path, progress=lambda items, **_: items) -> dict:
    """Writes the corpus folder (see corpus.py) and returns its manifest. `progress` wraps iterables."""
    settings = study.settings.corpus
    language = Language.of(settings)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lexicon.txt").write_text("".join(f"{word}\n" for word in language.words))

    def documents(split: str) -> Iterator[Document]:
        seed = settings.seed * 1000 + 1 + SPLITS.index(split)
        _, sampled = language.sample(settings.documents[split], settings.document_tokens, seed)
        return ([sentences] for sentences in _text(language, sampled))

    return write_corpus(study, folder, documents, partial(topic_rows, settings), progress)


def topic_rows(settings: Synthetic, split: str) -> DataFrame:
    """Returns rows (text, label) of the task to tell the topics of the language apart. split: train or test."""
    import pandas as pd

    language = Language.of(settings)
    topics, sampled = language.sample_sentences(settings.probe_documents[split], *settings.probe_sentences,
                                                settings.seed * 1000 + (11 if split == "train" else 12))
    return pd.DataFrame({"text": [" ".join(sentences) for sentences in _text(language, sampled)],
                         "label": topics.astype("int64")})


def _text(language: Language, documents: Iterable[list[list[int]]]) -> Iterator[list[str]]:
    """Yields each document of word ids as a list of sentences."""
    for sentences in documents:
        yield [" ".join(language.words[word] for word in sentence) for sentence in sentences]
