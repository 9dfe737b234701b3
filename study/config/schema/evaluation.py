"""Settings of the evaluation on fixed sets of text."""
from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from study.config.schema.base import Name, RelativePath, Settings, complete, unique_values


class MinimalPairs(Settings):
    """Pairs of sentences that differ in little, of which only one is acceptable."""

    name: Name
    """Name of the task in results and reports."""

    path: RelativePath
    """Id of the data set on the hub. All of its configurations are read."""

    revision: str | None
    """Commit of the data set on the hub."""

    local: RelativePath | None
    """Folder with `test.parquet` or other files of that name, below data/ or STUDY_DATA (study/data/sources.py). With a
    folder, nothing is asked of the hub; null: the pairs come from the hub."""

    splits: Annotated[dict[Literal["test"], str], complete("test")]
    """Split expression on the hub."""

    good: str
    """Column that contains the acceptable sentence."""

    bad: str
    """Column that contains the other one."""

    phenomenon: str | None
    """Column that names what a pair tests; accuracies are given for each phenomenon. null: all test the same."""

    paradigm: str | None
    """Column that names the template of a pair. Pairs of one template are alike, so intervals count them as one text.
    null: no templates."""

    pairs_per_paradigm: PositiveInt | None
    """Pairs to draw from each paradigm (without paradigms: from each phenomenon); null uses all."""


class Evaluation(Settings):
    """Scores on the fixed evaluation sets."""

    batch_size: PositiveInt
    """Rows per batch."""

    samples: PositiveInt
    """Rows whose five likeliest tokens per masked position are kept."""

    token_identity: PositiveInt | None = None
    """Positions of the test text that the token-identity probe of each layer is trained on, and as many others that it
    is scored on. null: no such probe."""

    minimal_pairs: list[MinimalPairs] = []
    """Minimal pairs that every encoder judges. The first task is the one that claims and figures use."""

    sentences: list[Annotated[str, Field(pattern=r"\[MASK\]")]] = []
    """Sentences with [MASK] in place of some words. What every encoder predicts there is kept, and the report shows it
    for the baseline, also where the corpus may not be quoted."""

    senses: bool = False
    """Whether to measure how far the vectors of words with two senses follow the sense (study/evaluation/senses.py)."""

    @model_validator(mode="after")
    def _names_differ(self):
        unique_values([task.name for task in self.minimal_pairs], "minimal_pairs: the name")
        return self
