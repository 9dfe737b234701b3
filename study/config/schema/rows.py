"""Settings of the vocabulary, of rows of tokens, and of what is predicted in them."""
from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from study.config.schema.base import Fraction, PositiveFraction, RelativePath, Settings

PAIR_FORMATS = ("segment-pairs", "sentence-pairs", "paragraph-pairs")
FORMATS = ("full-sentences", "document-sentences", *PAIR_FORMATS, "paragraphs")
SHORTEST_ROW = 8                            # tokens


class Tokenizer(Settings):
    """The vocabulary. Words are split into pieces as in WordPiece; with `words` they stay whole."""

    source: RelativePath
    """`train` to train on the corpus, `words` for its whole words, separated by white space, `characters` for its
    characters, `lexicon` for the words of the synthetic corpus, a vocab.txt or tokenizer.json or a folder with one
    (next to experiments/, or below data/ or STUDY_DATA), or a hub id: `owner/name`, or one of BERT's own names such as
    bert-base-uncased."""

    vocabulary_size: PositiveInt
    """Largest number of pieces, special tokens included."""

    lowercase: bool
    """Whether to lowercase the text."""

    strip_accents: bool | None = None
    """Whether to remove accents and other marks; null: as `lowercase` (BERT). Marks are vowels in some scripts, such as
    Thai and Devanagari, and `false` keeps them."""

    word_splitting: Literal["bert", "spaces", "spaceless-characters", "characters"] = "bert"
    """Where words end. `spaces`: at white space and punctuation. `bert`: Chinese characters are words as well.
    `spaceless-characters`: so are those of Thai, Lao, Khmer, Burmese and Japanese, which also have no spaces between
    words. `characters`: every character is a word."""

    max_word_characters: PositiveInt = 100
    """Longer words become [UNK]."""

    min_frequency: PositiveInt
    """A pair of pieces is merged (`train`), or a word or character is known (`words`, `characters`), only if it occurs
    at least this often."""


class Remasked(Settings):
    """A validation as tutorials do it: one paragraph per row, padded or cut, with new masks each time, drawn as in the
    run. The result is the mean over batches of the mean NLL of a batch."""

    rows: PositiveInt
    """The first rows of the validation split that are used, in batches of `training.batch_size`."""

    steps: PositiveInt
    """Steps between two of these validations. It must be a multiple of `training.eval_steps`."""


class Examples(Settings):
    """Rows of tokens, and the fixed evaluation sets."""

    max_seq_length: Annotated[int, Field(ge=SHORTEST_ROW)]
    """Tokens per row, [CLS] and [SEP] included."""

    validation_rows: PositiveInt
    """Rows of the validation set."""

    test_rows: PositiveInt
    """Rows of the test set."""

    pair_rows: PositiveInt
    """Segment pairs on which the accuracy of NSP and SOP, and the NLL of masked tokens in pairs, are measured."""

    windows: Literal["document", "text"] = "document"
    """Where the rows of the evaluation sets are from. `document`: each is inside one document, so shorter documents are
    left out. `text`: they run through the text, with [SEP] between documents, as training rows do."""

    seed: NonNegativeInt
    """Seed of the masks of the evaluation sets."""

    remasked: Remasked | None = None
    """A second validation, with new masks each time; null: none."""


class Inputs(Settings):
    """How text is laid out in rows."""

    format: Literal[FORMATS]
    """Input formats of RoBERTa, table 2; `paragraphs`: one paragraph per row, truncated or padded; `paragraph-pairs`:
    sentence pairs as Dive into Deep Learning makes them (study/data/paragraph_pairs.py)."""

    batch: Literal["rows", "tokens"]
    """What `batch_size` counts: rows, or the number of tokens that this many full rows have."""

    repeated_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of the training rows that have the text of one of the first 100 rows (of the first tenth, if that is
    less), as in text with many copies."""

    prepared: bool = False
    """Whether the rows are made before training, with their pairs and masks, and read from a parquet data set
    (study/data/prepared.py). There are `masking.dupe_factor` copies of each row. Needs `masking.schedule` static."""


class Masking(Settings):
    """Which tokens are selected for prediction, and what the encoder sees in their place."""

    mlm_probability: Annotated[float, Field(gt=0, lt=1)]
    """Expected fraction of the ordinary tokens that is selected."""

    mask: Fraction
    """Fraction of the selected tokens that is replaced by [MASK]."""

    random: Fraction
    """Fraction of the selected tokens that is replaced by a random token."""

    keep: Fraction
    """Fraction of the selected tokens that is left unchanged."""

    random_from: Literal["words", "vocabulary"] = "words"
    """What random tokens are drawn from: the ordinary pieces, or all ids, with special tokens and unused entries."""

    unknown: bool = False
    """Whether [UNK] can be selected."""

    draws: Literal["one", "overlapping"] = "one"
    """`one`: one draw decides between [MASK], random and kept. `overlapping`: two independent draws decide whether a
    token is replaced at random and whether it is kept. A token that both hit is replaced. The kept fraction is then
    keep * (1 - random), and the rest is [MASK]: 0.8, 0.1 and 0.1 give 81 / 10 / 9."""

    selection: Literal["token", "whole-word", "span", "fixed-count"]
    """What is selected together: single tokens, whole words, or spans of words (SpanBERT). `fixed-count` also selects
    single tokens: `mlm_probability` times the tokens of the row, special tokens included, rounded, and at least one."""

    span_mean: Annotated[float, Field(ge=1)]
    """Mean number of words per span (`span` only)."""

    schedule: Literal["dynamic", "static"]
    """`dynamic` draws new masks in every epoch, `static` reuses `dupe_factor` maskings."""

    dupe_factor: PositiveInt
    """Number of maskings of the corpus that are used in turn (`static` only)."""

    @model_validator(mode="after")
    def _fractions_add_up(self):
        if abs(self.mask + self.random + self.keep - 1) > 1e-9:
            raise ValueError(f"mask + random + keep must be 1, not {self.mask + self.random + self.keep:g}")
        return self


class Objective(Settings):
    """What the encoder is trained to predict."""

    token_objective: Literal["mlm", "causal"]
    """`mlm`: the selected tokens. `causal`: every next token, left to right."""

    sentence_objective: Literal["none", "nsp", "sop"]
    """Next-sentence prediction or sentence-order prediction, in addition to `token_objective`."""

    sentence_weight: Annotated[float, Field(ge=0)]
    """Weight of the sentence loss; the token loss has weight 1."""

    target_fraction: PositiveFraction
    """Fraction of the selected tokens that enter the loss; with `causal`, of all tokens."""
