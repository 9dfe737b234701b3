"""Every setting of a study and of an arm, with its type, bounds and meaning. No key has a hidden default."""
from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import pydantic
from pydantic import AfterValidator, Field, PositiveInt, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="lower-case letters, digits and hyphens")]
FORMATS = ("full-sentences", "document-sentences", "segment-pairs", "sentence-pairs", "paragraphs")
PAIRS = ("segment-pairs", "sentence-pairs")


def _complete(*names: str) -> AfterValidator:
    """Requires a value for each of these keys."""
    def check(value: dict) -> dict:
        if missing := [name for name in names if name not in value]:
            raise ValueError(f"missing key {missing[0]}")
        return value
    return AfterValidator(check)


def _inside(value: str) -> str:
    """Refuses a path that could lead out of the folder it is meant in."""
    if value.startswith(("/", "~")) or ".." in value.replace("\\", "/").split("/"):
        raise ValueError("must lie inside its folder: no leading / or ~, and no ..")
    return value


Inside = Annotated[str, AfterValidator(_inside)]
THREE, TWO = _complete("train", "validation", "test"), _complete("train", "test")


class Settings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Synthetic(Settings):
    """The built-in language (`study/data/synthetic.py`); its best possible perplexity is known exactly."""
    kind: Literal["synthetic"]
    seed: int
    topics: PositiveInt
    themes: PositiveInt
    general: PositiveInt                    # words in the list that every topic shares, per word class
    topical: PositiveInt                    # words of one topic, per class
    thematic: PositiveInt                   # words of one topic and theme, per class
    mixture: tuple[Share, Share, Share]     # weight of the three lists
    advance: Share                          # probability that the theme advances at a full stop
    smoothing: Share                            # share of each word law that is spread over all places
    document_tokens: PositiveInt            # a document ends with the first sentence that ends at or after this many
    documents: Annotated[dict[Literal["train", "validation", "test"], PositiveInt], THREE]
    probe_documents: Annotated[dict[Literal["train", "test"], PositiveInt], TWO]
    probe_sentences: tuple[PositiveInt, PositiveInt]     # a probe row has this many whole sentences: least, most


class Text(Settings):
    """Real text through `datasets.load_dataset`, or from a folder of parquet files in the same schema."""
    kind: Literal["text"]
    path: Inside                            # hub id
    name: str | None                        # configuration on the hub
    revision: str | None                    # commit on the hub, pinned: the same text comes back
    local: Inside | None                    # folder under data/ (or STUDY_DATA) of <split>.parquet
    splits: Annotated[dict[Literal["train", "validation", "test"], str], THREE]   # split expressions on the hub
    column: str
    layout: Literal["wikitext", "documents"]    # a row is a line of WikiText, or a whole document, a paragraph a line
    language: str
    max_documents: PositiveInt | None       # training documents that are read; null: all
    quote: bool                             # whether lines of it may stand in results and reports


class ProbeTask(Settings):
    """One text classification task. `path: corpus` is the task that comes with the synthetic corpus (its topics)."""
    name: Name
    path: Inside
    revision: str | None
    local: Inside | None
    splits: Annotated[dict[Literal["train", "test"], str], TWO]
    text: str
    label: str
    labels: Annotated[list[str], Field(min_length=2)]    # names of the classes 0, 1, ...
    train_rows: PositiveInt | None          # rows drawn (stratified, seeded) from each split; null: all
    test_rows: PositiveInt | None


class Tokenizer(Settings):
    source: Inside                          # `train`, `lexicon` (the synthetic corpus's words), a vocab.txt, a hub id
    vocabulary_size: PositiveInt
    lowercase: bool
    min_frequency: PositiveInt


class Examples(Settings):
    max_seq_length: Annotated[int, Field(ge=8)]     # tokens a row, [CLS] and [SEP] included
    validation_rows: PositiveInt            # rows of the fixed evaluation sets
    test_rows: PositiveInt
    pair_rows: PositiveInt                  # pairs for NSP and SOP accuracy
    seed: int                               # of the fixed masks


class Inputs(Settings):
    format: Literal[FORMATS]
    batch: Literal["rows", "tokens"]        # batch_size counts rows, or as many tokens as that many full rows hold


class Masking(Settings):
    mlm_probability: Annotated[float, Field(gt=0, lt=1)]    # expected share of ordinary tokens that are selected
    mask: Share                             # of the selected: shown as [MASK] / as a random word / unchanged
    random: Share
    keep: Share
    selection: Literal["token", "whole-word", "span"]
    span_mean: Annotated[float, Field(ge=1)]     # mean words a span, `span` only
    schedule: Literal["dynamic", "static"]
    dupe_factor: PositiveInt                 # static: how many maskings of the corpus are cycled through

    @model_validator(mode="after")
    def _shares(self):
        if abs(self.mask + self.random + self.keep - 1) > 1e-9:
            raise ValueError(f"mask + random + keep must be 1, not {self.mask + self.random + self.keep:g}")
        return self


class Objective(Settings):
    token_objective: Literal["mlm", "causal"]          # causal: left-to-right, every next token is a target
    sentence_objective: Literal["none", "nsp", "sop"]
    sentence_weight: Annotated[float, Field(ge=0)]
    target_fraction: Annotated[float, Field(gt=0, le=1)]    # of the selected tokens, how many are targets


class Model(Settings):
    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    intermediate_size: PositiveInt
    norm: Literal["post", "pre"]
    embedding_norm: bool
    dropout: Annotated[float, Field(ge=0, lt=1)]
    initialization: Literal["width-aware", "bert"]
    tied_decoder: bool
    decoder_transform: bool                 # BERT's dense + GELU + norm before the decoder

    @model_validator(mode="after")
    def _heads(self):
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                             f"{self.num_attention_heads}")
        return self


class Curriculum(Settings):
    share: Annotated[float, Field(gt=0, lt=1)]        # of the steps (tokens a step stay equal) ...
    length: Annotated[float, Field(gt=0, lt=1)]       # ... at this share of the full length


class Training(Settings):
    steps: Annotated[int, Field(ge=0)]      # 0: the encoder as initialised
    seed_offset: Annotated[int, Field(ge=0)]    # added to the cell's seed: an arm under seeds of its own
    batch_size: PositiveInt                 # rows a step
    gradient_accumulation_steps: PositiveInt               # micro-batches a step; the result equals one large batch
    data_share: Annotated[float, Field(gt=0, le=1)]   # share of the training rows that is used
    learning_rate: Annotated[float, Field(gt=0)]
    warmup_steps: Annotated[int, Field(ge=0)]
    lr_scheduler_type: Literal["linear", "cosine", "constant"]
    adam_beta1: Annotated[float, Field(ge=0, lt=1)]
    adam_beta2: Annotated[float, Field(ge=0, lt=1)]
    adam_epsilon: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]       # none on biases and norms
    max_grad_norm: Annotated[float, Field(gt=0)] | None
    precision: Literal["float32", "bfloat16"]
    compile: bool                           # through torch.compile: for large models on a GPU, a minute before step 1
    threads: PositiveInt | None             # processor threads; a number gives the same bytes whatever runs beside it
    curriculum: Curriculum | None
    patience: PositiveInt | None            # validations without a better NLL before training stops; null: never
    logging_steps: PositiveInt
    eval_steps: PositiveInt
    save_steps: PositiveInt

    @model_validator(mode="after")
    def _steps(self):
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} is more than steps {self.steps}")
        if self.batch_size % self.gradient_accumulation_steps:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of gradient_accumulation_steps "
                             f"{self.gradient_accumulation_steps}")
        return self


class Range(Settings):
    low: float
    high: float
    log: bool

    @model_validator(mode="after")
    def _range(self):
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low:g} must be less than high {self.high:g}"
                             f"{', and more than 0 on a logarithmic scale' if self.log else ''}")
        return self


class Search(Settings):
    """Optuna search before training. Tuned arms get equal trials; the other arms take what was best for the first."""
    arms: list[Name]
    trials: Annotated[int, Field(ge=0)]
    steps: PositiveInt
    seed: int                               # of training and of the sampler; no reported cell uses it
    space: dict[str, Range]                 # e.g. training.learning_rate


class Evaluation(Settings):
    batch_size: PositiveInt
    samples: PositiveInt                    # fixed rows whose top-5 predictions are kept


class Probe(Settings):
    tasks: Annotated[list[ProbeTask], Field(min_length=1)]
    poolings: Annotated[list[Literal["cls", "mean"]], Field(min_length=1)]
    layers: Literal["last", "all"]          # all: mean pooling of every layer too
    train_sizes: list[PositiveInt]          # accuracy with so many training rows, five draws each
    controls: bool                          # shuffled labels, and the common tutorial's own probe
    regularization: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]    # values of C, to choose from
    folds: Annotated[int, Field(ge=2)]
    batch_size: PositiveInt

    @model_validator(mode="after")
    def _a_row_a_class(self):
        for task in self.tasks:
            if few := [size for size in self.train_sizes if size < len(task.labels)]:
                raise ValueError(f"train_sizes: {few[0]} rows are fewer than the {len(task.labels)} classes of "
                                 f"{task.name}")
        return self


class RunConfig(Settings):
    """Resolved settings of one arm: all that training reads."""
    tokenizer: Tokenizer
    examples: Examples
    inputs: Inputs
    masking: Masking
    objective: Objective
    model: Model
    training: Training

    @model_validator(mode="after")
    def _consistent(self):
        if self.objective.sentence_objective != "none" and self.inputs.format not in PAIRS:
            raise ValueError(f"objective.sentence_objective {self.objective.sentence_objective} needs inputs.format {' or '.join(PAIRS)}, "
                             f"not {self.inputs.format}")
        if self.objective.sentence_objective != "none" and self.objective.token_objective == "causal":
            raise ValueError(f"objective.sentence_objective {self.objective.sentence_objective} needs objective.token_objective mlm: left to right, [CLS] "
                             f"sees neither segment")
        if self.training.patience is not None and self.objective.token_objective == "causal":
            raise ValueError("training.patience counts validations on [MASK], and objective.token_objective causal has none")
        if self.training.curriculum is not None:
            short = self.examples.max_seq_length * self.training.curriculum.length
            if short < 8 or short % 1 or self.examples.max_seq_length % short:
                raise ValueError(f"training.curriculum.length gives rows of {short:g} tokens; they must be 8 at least "
                                 f"and divide examples.max_seq_length {self.examples.max_seq_length}")
        return self


class StudyConfig(RunConfig):
    """All of `params.yaml`."""
    name: Name
    root: str                               # from this folder to the one that holds experiments/
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    baseline: Name
    arms: Annotated[list[Name], Field(min_length=1)]
    corpus: Annotated[Synthetic | Text, Field(discriminator="kind")]
    search: Search
    evaluation: Evaluation
    probe: Probe

    @model_validator(mode="after")
    def _study(self):
        if len(set(self.seeds)) != len(self.seeds) or len(set(self.arms)) != len(self.arms):
            raise ValueError("seeds and arms must not repeat")
        if self.search.seed in self.seeds:
            raise ValueError(f"search.seed {self.search.seed} is one of the reported seeds")
        if missing := [arm for arm in (self.baseline, *self.search.arms) if arm not in self.arms]:
            raise ValueError(f"{missing[0]} (baseline or search.arms) is not among the study's arms")
        for key in self.search.space:
            section, _, name = key.partition(".")
            if section not in RunConfig.model_fields or name not in type(getattr(self, section)).model_fields:
                raise ValueError(f"search.space: {key} is no setting; write it as training.learning_rate")
            kind = type(getattr(self, section)).model_fields[name].annotation
            if float not in (kind, *get_args(kind)):
                raise ValueError(f"search.space: {key} is no number with a fraction, and only such are searched")
        return self


class Arm(Settings):
    description: str                              # one sentence, shown in the report
    factor: str
    baseline: Name | None                   # the arm it is compared with and starts from; null: the study's settings
    source: str                             # paper or tutorial that it follows
    source_reports: str                               # what that source reports
    changes: dict[Literal["inputs", "masking", "objective", "model", "training"], dict[str, Any]]
                                            # what differs from the baseline; {times: x} scales a number
