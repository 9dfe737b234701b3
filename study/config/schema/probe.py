"""Settings of the probes: classification tasks that a linear model solves on frozen vectors."""
from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, StrictBool, StrictInt, StrictStr, model_validator

from study.config.schema.base import TRAIN_TEST, Name, RelativePath, Settings, Word, unique, unique_values

LabelValue = StrictInt | StrictStr | StrictBool


class ProbeTask(Settings):
    """One text classification task."""

    name: Name
    """Name of the task in results and reports."""

    path: RelativePath
    """Id of the data set on the hub; `corpus` for the topics of the synthetic corpus."""

    revision: str | None
    """Commit of the data set on the hub."""

    local: RelativePath | None
    """Folder of the rows, below data/ or STUDY_DATA (study/data/sources.py lists the files). With a folder, nothing is
    asked of the hub; null: the rows come from the hub."""

    format: Literal["parquet", "csv", "tsv", "json", "saved"] | None = None
    """Format of the local files; null: as their names say."""

    splits: Annotated[dict[Literal["train", "test"], str], TRAIN_TEST]
    """Name or expression on the hub of each split. A name also begins the names of local files; in place of an
    expression, these have the split's own name."""

    text: str
    """Column that contains the text."""

    label: str
    """Column that contains the class: 0, 1, ..., or its name, or one of `label_values`."""

    labels: Annotated[list[Word], Field(min_length=2), unique]
    """Names of the classes, in order. If the data has names, they decide which class is which. So do its numbers, if
    they are names here in other places."""

    label_values: Annotated[list[LabelValue], unique] | None = None
    """The values of the column `label`, in the order of `labels`; null: 0, 1, ... or the names. true and false are the
    same as the words "true" and "false"."""

    ignored_labels: Annotated[list[LabelValue], unique] = []
    """Rows with one of these values are left out, for example -1 where it means that a row has no label."""

    train_rows: PositiveInt | None
    """Training rows to draw, with classes as equal in size as possible; null uses all."""

    test_rows: PositiveInt | None
    """Test rows to draw, with classes as equal in size as possible; null uses all."""

    draws: PositiveInt = 1
    """How often `train_rows` training rows are drawn. With more than one, every seed has draws of its own, which all
    arms share; accuracies are means over the draws."""

    take: Literal["drawn", "first"] = "drawn"
    """Which `train_rows` and `test_rows` rows are used: drawn ones, or the first ones in the order of the data."""

    @model_validator(mode="after")
    def _columns_differ(self):
        if self.label == self.text:
            raise ValueError(f"label: {self.label} is the column of the text as well; name the column of the classes")
        return self

    @model_validator(mode="after")
    def _values_fit(self):
        if self.label_values is not None and len(self.label_values) != len(self.labels):
            raise ValueError(f"label_values: {len(self.label_values)} values for {len(self.labels)} labels; give one "
                             f"for each label, in the same order")
        if both := set(self.label_values or ()) & set(self.ignored_labels):
            raise ValueError(f"ignored_labels: {both.pop()} is one of label_values as well; remove it from one of them")
        return self

    @model_validator(mode="after")
    def _rows_to_draw(self):
        if self.draws > 1 and self.take == "first":
            raise ValueError(f"draws: {self.draws} draws of the first rows would be alike; set draws: 1 or take: drawn")
        if self.draws > 1 and self.train_rows is None:
            raise ValueError(f"draws: {self.draws} draws need train_rows, the number of rows in each")
        return self


class Probe(Settings):
    """Logistic regression on the vectors of the frozen encoder."""

    tasks: Annotated[list[ProbeTask], Field(min_length=1)]
    """The first task is the one that claims and figures use."""

    poolings: Annotated[list[Literal["cls", "mean"]], Field(min_length=1), unique]
    """How the states of a text become one vector: the state of [CLS], or the mean over its tokens."""

    layers: Literal["last", "all"]
    """`all` also probes every layer with mean pooling."""

    train_sizes: Annotated[list[PositiveInt], unique]
    """Accuracy is also measured with these numbers of training rows, five draws each."""

    controls: bool
    """Whether to run two control probes: one with shuffled labels, and the probe of the common tutorial."""

    regularization: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    """Candidate values of C (the inverse of the L2 penalty), chosen by cross-validation on the training rows."""

    folds: Annotated[int, Field(ge=2)]
    """Folds of the cross-validation."""

    batch_size: PositiveInt
    """Texts per batch when they are encoded."""

    plane_rows: PositiveInt = 400
    """Test rows whose [CLS] vectors are projected onto their first two principal components."""

    projections: list[Literal["tsne", "umap"]] = []
    """Further projections of the same [CLS] vectors, for a figure: t-SNE, or UMAP (needs the package umap-learn)."""

    @model_validator(mode="after")
    def _task_names_differ(self):
        unique_values([task.name for task in self.tasks], "tasks: the name")
        return self

    @model_validator(mode="after")
    def _at_least_one_row_per_class(self):
        for task in self.tasks:
            if too_small := [size for size in self.train_sizes if size < len(task.labels)]:
                raise ValueError(f"train_sizes: {too_small[0]} rows are fewer than the {len(task.labels)} classes of "
                                 f"{task.name}")
        return self
