"""Settings of fine-tuning: classification tasks on which the whole encoder is trained further."""
from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, ValidationError, model_validator

from study.config.schema.base import Fraction, Name, Settings, unique, unique_values
from study.config.schema.probe import ProbeTask
from study.config.validation_errors import explained

ENCODERS = ("trained", "untrained")         # names of the recipe's own scores; no variant may have one
FACTS = ("labels", "rows", "majority")      # other entries of a task in finetune.json; no variant may have their names
SHARED = ("train_sizes", "seeds", "validation_fraction", "untrained")       # what variants may not change: they are
#                                             compared run by run with the recipe, on the same rows


class FinetuneTask(ProbeTask):
    """One classification task, of single texts or of pairs of texts. `train_rows` is the number of rows that training
    rows are drawn from."""

    text_pair: str | None = None
    """Column that contains the second text of a pair; null: single texts."""

    @model_validator(mode="after")
    def _pair_differs(self):
        if self.text_pair in (self.text, self.label):
            other = "text" if self.text_pair == self.text else "label"
            raise ValueError(f"text_pair: {self.text_pair} is the column of the {other} as well; name the one with the "
                             f"second text, or null for single texts")
        return self

    @model_validator(mode="after")
    def _drawn_by_size(self):
        if self.draws > 1:
            raise ValueError("draws: fine-tuning draws rows for each of recipe.train_sizes; remove draws")
        return self


class FinetuneRecipe(Settings):
    """How a classifier is trained. Learning rate, warm-up and optimiser do not depend on the arm."""

    train_sizes: Annotated[list[PositiveInt], Field(min_length=1), unique]
    """Numbers of labelled rows to fine-tune on, those held out included. Claims use the last one."""

    seeds: PositiveInt
    """Runs per size, which differ in the weights of the new head, the order of the rows and dropout. Their rows are the
    same: those depend on the seed of the cell."""

    learning_rates: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    """Candidate learning rates. Each run takes the one with the best accuracy on the rows held out."""

    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    """Fraction of the labelled rows that is held out for this choice."""

    epochs: PositiveInt
    """Passes over the training rows."""

    batch_size: PositiveInt
    """Rows per step."""

    warmup_fraction: Fraction
    """Fraction of the steps over which the learning rate rises linearly from 0."""

    lr_scheduler_type: Literal["linear", "cosine", "constant"]
    """Learning rate after warm-up: decay to 0, or none."""

    max_length: Annotated[int, Field(ge=3)]
    """Tokens of a text or pair, [CLS] and [SEP] included; longer ones are truncated. At most the length of a row in
    pre-training is used."""

    pooling: Literal["cls", "mean"]
    """What the linear classifier reads: the state of [CLS], or the mean over the tokens of the text. (BERT passes the
    state of [CLS] through a dense layer and tanh first, which next-sentence prediction has trained.)"""

    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Dropout probability in the encoder and before the classifier."""

    frozen_layers: Annotated[int, Field(ge=0)] | Literal["all"]
    """Number of layers, from the first, whose weights stay as pre-trained."""

    freeze_embeddings: bool
    """Whether the embeddings and their norm stay as pre-trained."""

    adam_beta1: Annotated[float, Field(ge=0, lt=1)]
    """Decay rate of AdamW's mean of the gradient."""

    adam_beta2: Annotated[float, Field(ge=0, lt=1)]
    """Decay rate of AdamW's mean of the squared gradient."""

    adam_epsilon: Annotated[float, Field(gt=0)]
    """Added to the root of the mean squared gradient."""

    weight_decay: Annotated[float, Field(ge=0)]
    """Decoupled weight decay. Biases and norms are exempt."""

    max_grad_norm: Annotated[float, Field(gt=0)] | None
    """Gradients are clipped to this norm; null: no clipping."""

    untrained: bool
    """Whether the encoder as initialised, before pre-training, is fine-tuned too."""


class Finetune(Settings):
    """Fine-tuning of trained cells. With empty lists of arms and tasks, a study has none, and DVC no such stages."""

    arms: list[Name] = []
    """Arms of the study whose cells are fine-tuned."""

    tasks: list[FinetuneTask] = []
    """The first task is the one that claims and figures use."""

    recipe: FinetuneRecipe | None = None
    """How classifiers are trained; it may be null only without arms and tasks."""

    variants: dict[Name, dict[str, Any]] = {}
    """Further recipes for the cells of the baseline: name -> the settings of `recipe` that differ. `more-epochs`,
    `no-warmup` and `frozen-half` are the names that metrics know."""

    @model_validator(mode="after")
    def _complete(self):
        if self.arms and not self.tasks or (self.arms or self.tasks) and self.recipe is None:
            missing = "recipe" if self.recipe is None else "tasks"
            raise ValueError(f"{missing}: missing; fine-tuning needs arms, tasks and a recipe. To turn it off, empty "
                             f"the lists of arms and tasks")
        unique_values([task.name for task in self.tasks], "tasks: the name")
        unique_values(self.arms, "arms:")
        for task in self.tasks:
            for size in self.recipe.train_sizes:
                _check_size(size, self.recipe.validation_fraction, task)
        return self

    @model_validator(mode="after")
    def _variants_are_recipes(self):
        if self.variants and self.recipe is None:
            raise ValueError("variants: need a recipe that they change")
        for name, changes in self.variants.items():
            if name in ENCODERS:
                raise ValueError(f"variants: {name} is the name of an encoder; choose another")
            if name in FACTS:
                raise ValueError(f"variants: {name} is the name of another entry of finetune.json; choose another")
            if fixed := [key for key in SHARED if key in changes]:
                raise ValueError(f"variants: {name}: {fixed[0]} is the same in all variants; remove it")
            if not changes:
                raise ValueError(f"variants: {name} changes no setting; remove it")
            recipe = self.recipe.model_dump() | changes
            try:
                FinetuneRecipe.model_validate(recipe)
            except ValidationError as error:
                raise ValueError(f"variants: {name}: {explained(FinetuneRecipe, error, recipe)}") from None
        return self


def _check_size(size: int, held_out: float, task: FinetuneTask) -> None:
    """Raises ValueError if a draw of `size` rows cannot have every class in both of its parts."""
    classes, validation = len(task.labels), round(size * held_out)
    if min(validation, size - validation) < classes:
        raise ValueError(f"recipe.train_sizes: {size} rows, {validation} of them held out, are too few for the "
                         f"{classes} classes of {task.name}")
    if task.train_rows is not None and size > task.train_rows:
        raise ValueError(f"recipe.train_sizes: {size} rows are more than the {task.train_rows} of train_rows of "
                         f"{task.name}")
