"""Settings of the corpus: the synthetic language, or real text."""
from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, NonNegativeInt, PositiveInt, model_validator

from study.config.schema.base import TRAIN_TEST, TRAIN_VALIDATION_TEST, Fraction, RelativePath, Settings


def _some_weight(value: tuple) -> tuple:
    if not any(value):
        raise ValueError("at least one weight must be greater than 0")
    return value


def _ascending(value: tuple) -> tuple:
    if value[0] > value[1]:
        raise ValueError(f"the smallest number comes first; write [{value[1]}, {value[0]}]")
    return value


class Synthetic(Settings):
    """The built-in language (study/data/synthetic.py). Its lowest possible perplexity is known exactly."""

    kind: Literal["synthetic"]
    """Always `synthetic`."""

    seed: NonNegativeInt
    """Seed of the language and of its documents."""

    topics: PositiveInt
    """Number of topics. A document has one topic."""

    themes: PositiveInt
    """Number of themes per topic. The theme changes within a document."""

    general: PositiveInt
    """Words per word class that all topics share."""

    topical: PositiveInt
    """Words per word class that belong to one topic."""

    thematic: PositiveInt
    """Words per word class that belong to one theme of one topic."""

    mixture: Annotated[tuple[Fraction, Fraction, Fraction], AfterValidator(_some_weight)]
    """Weights of the general, topical and thematic word lists."""

    advance: Fraction
    """Probability that the theme advances at the end of a sentence."""

    smoothing: Fraction
    """Fraction of every word distribution that is averaged over all topics and themes."""

    document_tokens: PositiveInt
    """A document ends with the first sentence that reaches this number of tokens."""

    documents: Annotated[dict[Literal["train", "validation", "test"], PositiveInt], TRAIN_VALIDATION_TEST]
    """Documents per split."""

    probe_documents: Annotated[dict[Literal["train", "test"], PositiveInt], TRAIN_TEST]
    """Rows per split of the probe task. Its classes are the topics."""

    probe_sentences: Annotated[tuple[PositiveInt, PositiveInt], AfterValidator(_ascending)]
    """Smallest and largest number of sentences in a row of the probe task."""


class Text(Settings):
    """Real text, from `datasets.load_dataset` or from a folder of parquet files with the same columns."""

    kind: Literal["text"]
    """Always `text`."""

    path: RelativePath
    """Id of the data set on the Hugging Face hub."""

    name: str | None
    """Configuration of the data set on the hub."""

    revision: str | None
    """Commit of the data set on the hub. Pin it, so that the text cannot change."""

    local: RelativePath | None
    """Folder of the text, below data/ or STUDY_DATA (study/data/sources.py lists the files). With a folder, nothing is
    asked of the hub; null: the text comes from the hub."""

    format: Literal["parquet", "csv", "tsv", "json", "text", "saved"] | None = None
    """Format of the local files; null: as their names say. `json` may have one object per line, and `saved` is a folder
    that `save_to_disk` of `datasets` has written."""

    splits: Annotated[dict[Literal["train", "validation", "test"], str], TRAIN_VALIDATION_TEST]
    """Name or expression on the hub of each split, for example `train[:1000]`. A name also begins the names of local
    files; in place of an expression, these have the split's own name."""

    column: str
    """Column that contains the text. Lines of text files are in the column `text`."""

    layout: Literal["wikitext", "documents", "sentences", "files"]
    """`wikitext`: a row is one line of WikiText. `documents`: a row is one document with one paragraph per line.
    `sentences`: a row is one sentence, and an empty row ends a document (BERT's input files). `files`: a text file is
    one document with one paragraph per line."""

    headings: bool = False
    """Whether section headings are kept, as paragraphs (layout `wikitext` only)."""

    min_characters: NonNegativeInt = 0
    """Paragraphs with this number of characters or fewer are left out."""

    sentences: Literal["segmented", "periods"] = "segmented"
    """`segmented`: by a segmenter for the language. `periods`: a paragraph is split at " . ", one without " . " is left
    out, and marks such as "@-@" stay, as in Dive into Deep Learning."""

    language: str
    """ISO 639 code, for sentence segmentation."""

    max_documents: PositiveInt | None
    """Number of training documents to read; null reads all."""

    quote: bool
    """Whether results and reports may quote the text."""

    @model_validator(mode="after")
    def _headings_are_marked(self):
        if self.headings and self.layout != "wikitext":
            raise ValueError(f"headings: only layout wikitext marks headings, not {self.layout}")
        return self

    @model_validator(mode="after")
    def _sentences_are_not_split_again(self):
        if self.layout == "sentences" and self.sentences == "periods":
            raise ValueError("sentences: periods splits paragraphs, and with layout sentences a row is one sentence")
        if self.layout == "sentences" and self.min_characters:
            raise ValueError("min_characters: leaves out paragraphs, and with layout sentences a row is one sentence")
        return self
