"""Settings of a study (params.yaml) and of an arm (experiments/arms.yaml)."""
from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from study.config.schema.base import Name, Settings, unique, unique_values
from study.config.schema.corpus import Synthetic, Text
from study.config.schema.evaluation import Evaluation
from study.config.schema.finetune import Finetune
from study.config.schema.probe import Probe
from study.config.schema.run import Recipe


class SearchRange(Settings):
    """Values that the search may try for one setting."""

    low: float
    """Smallest value."""

    high: float
    """Largest value."""

    log: bool
    """Whether to sample on a logarithmic scale."""

    @model_validator(mode="after")
    def _not_empty(self):
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low:g} must be less than high {self.high:g}"
                             f"{', and greater than 0 on a logarithmic scale' if self.log else ''}")
        return self


class Search(Settings):
    """Hyperparameter search with Optuna before training. Every tuned arm gets the same number of trials."""

    arms: Annotated[list[Name], unique]
    """Arms to tune. Another arm takes the values of its nearest tuned ancestor, or else of the first arm listed."""

    trials: Annotated[int, Field(ge=0)]
    """Trials per tuned arm; 0: no search."""

    steps: PositiveInt
    """Training steps per trial."""

    seed: NonNegativeInt
    """Seed of the trials and of the sampler. It must not be the seed of a reported cell."""

    space: dict[str, SearchRange]
    """Searched settings by dotted key, for example `training.learning_rate`."""


class StudyConfig(Recipe):
    """Everything in params.yaml, apart from `version`."""

    name: Name
    """Name of the study. Its results are in runs/<name> and reports/<name>."""

    root: str
    """Path from the study's folder to the folder that contains experiments/."""

    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Seeds of the cells. Every arm is trained once per seed."""

    baseline: Name
    """Arm that the report compares the others with."""

    arms: Annotated[list[Name], Field(min_length=1)]
    """Arms of experiments/arms.yaml that the study trains."""

    corpus: Annotated[Synthetic | Text, Field(discriminator="kind")]
    """The text: the synthetic language or a data set."""

    search: Search
    evaluation: Evaluation
    probe: Probe
    finetune: Finetune = Finetune()

    @model_validator(mode="after")
    def _arms_and_seeds_fit(self):
        unique_values(self.seeds, "seeds:")
        unique_values(self.arms, "arms:")
        if missing := [arm for arm in (self.baseline, *self.search.arms) if arm not in self.arms]:
            raise ValueError(f"{missing[0]} (baseline or search.arms) is not among the study's arms")
        return self

    @model_validator(mode="after")
    def _finetuned_arms_exist(self):
        if missing := [arm for arm in self.finetune.arms if arm not in self.arms]:
            raise ValueError(f"finetune.arms: {missing[0]} is not among the study's arms")
        return self

    @model_validator(mode="after")
    def _topics_have_names(self):
        for task in (*self.probe.tasks, *self.finetune.tasks):
            if self.corpus.kind == "synthetic" and task.path == "corpus" and len(task.labels) != self.corpus.topics:
                raise ValueError(f"task {task.name}: {len(task.labels)} labels, but corpus.topics is "
                                 f"{self.corpus.topics}; name each topic once")
        return self

    @model_validator(mode="after")
    def _floor_is_known(self):
        if self.corpus.kind == "synthetic" and self.examples.windows != "document":
            raise ValueError(f"examples.windows {self.examples.windows} needs real text: the exact floor of the "
                             f"built-in language holds inside a document")
        return self

    @model_validator(mode="after")
    def _searched_settings_exist(self):
        for key, searched in self.search.space.items():
            section, _, name = key.partition(".")
            if section not in Recipe.model_fields or name not in type(getattr(self, section)).model_fields:
                raise ValueError(f"search.space: {key} is not a setting; write section.name, for example "
                                 f"training.learning_rate")
            settings = getattr(self, section)
            if not _holds_a_float(type(settings).model_fields[name].annotation):
                raise ValueError(f"search.space: {key} is not a float; only settings of type float can be searched")
            for bound, value in (("low", searched.low), ("high", searched.high)):
                try:
                    type(settings).model_validate(settings.model_dump() | {name: value})
                except ValidationError as error:
                    message = error.errors()[0]["msg"].removeprefix("Value error, ")
                    raise ValueError(f"search.space: {key}: {bound} {value:g} is not a value of this setting: "
                                     f"{message}") from None
        return self


def _holds_a_float(annotation: Any) -> bool:
    """Whether a type is float, or a union with a float, which may have bounds."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation is float or any(map(_holds_a_float, get_args(annotation)))


class From(Settings):
    """What a branched arm starts from: the state of another arm, at the same seed."""

    arm: Name
    """The other arm."""

    step: PositiveInt
    """The step after which the arm goes on with its own settings."""


class Arm(Settings):
    """One pre-training recipe, as a difference from its baseline. Only `baseline`, `changes` and `from` affect
    results."""

    description: str
    """What the arm is, in one sentence. The report shows it."""

    factor: str
    """What the arm varies. The report groups arms by factor."""

    baseline: Name | None
    """The arm that it is compared with and whose changes it inherits; null: the study's own settings."""

    source: str
    """Paper or tutorial that the arm follows."""

    source_reports: str
    """What the source reports about it."""

    changes: dict[Literal["inputs", "masking", "objective", "model", "training"], dict[str, Any]]
    """Settings that differ from the baseline's. `{times: x}` multiplies a number by x."""

    branch: From | None = Field(default=None, alias="from")
    """Up to a step, the arm trains as another arm does; null: it starts at initialisation. An arm inherits it."""
