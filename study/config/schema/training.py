"""Settings of the optimisation."""
from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from study.config.schema.base import PositiveFraction, Settings


class Curriculum(Settings):
    """Short rows first, then full rows."""

    step_fraction: Annotated[float, Field(gt=0, lt=1)]
    """Fraction of the steps with short rows."""

    length_fraction: Annotated[float, Field(gt=0, lt=1)]
    """Length of the short rows as a fraction of `examples.max_seq_length`."""

    keep: Literal["tokens", "rows"] = "tokens"
    """What a step with short rows has as much of as one with full rows: tokens, or rows (then it has fewer tokens)."""


class Training(Settings):
    """The optimisation. Names follow `transformers.TrainingArguments` where it has one."""

    steps: Annotated[int, Field(ge=0)]
    """Optimiser steps; 0 leaves the encoder as initialised."""

    seed_offset: Annotated[int, Field(ge=0)]
    """Added to the seed of the cell, so that an arm can have other seeds than its baseline."""

    initialization_seed: Annotated[int, Field(ge=0)] | None = None
    """Seed of the initial weights; null: that of the cell. Fix two of the three seeds to vary one source of chance."""

    order_seed: Annotated[int, Field(ge=0)] | None = None
    """Seed of the order of the rows, of pairs of segments and of repeated rows; null: that of the cell."""

    mask_seed: Annotated[int, Field(ge=0)] | None = None
    """Seed of the masks, of what is shown in their place, and of dropout; null: that of the cell."""

    batch_size: PositiveInt
    """Rows per step."""

    gradient_accumulation_steps: PositiveInt
    """Micro-batches per step. Without dropout, the gradient equals that of one large batch."""

    data_fraction: PositiveFraction
    """Fraction of the training rows that is used."""

    learning_rate: Annotated[float, Field(gt=0)]
    """Learning rate after warm-up."""

    warmup_steps: Annotated[int, Field(ge=0)]
    """Steps over which the learning rate rises linearly from 0."""

    warmup_from_zero: bool = False
    """Whether the first update has a learning rate of 0, and so does nothing, as in the schedules of `transformers`."""

    lr_scheduler_type: Literal["linear", "cosine", "constant", "inverse-sqrt"]
    """Learning rate after warm-up: decay to 0, none, or decay with the inverse square root of the step (the Noam
    schedule of Vaswani et al. 2017)."""

    position_learning_rate: Annotated[float, Field(ge=0)] = 1.0
    """Learning rate of position embeddings and of the bias of relative positions, as a multiple of `learning_rate`.
    Their weight decay is scaled with it. 0: they stay as initialised."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """`adamw` (Loshchilov and Hutter 2019), or `muon` (Jordan et al. 2024) for the weight matrices of the layers and
    AdamW for the rest."""

    adam_beta1: Annotated[float, Field(ge=0, lt=1)]
    """Decay rate of AdamW's mean of the gradient."""

    adam_beta2: Annotated[float, Field(ge=0, lt=1)]
    """Decay rate of AdamW's mean of the squared gradient."""

    adam_epsilon: Annotated[float, Field(gt=0)]
    """Added to the root of the mean squared gradient."""

    weight_decay: Annotated[float, Field(ge=0)]
    """Decoupled weight decay (AdamW)."""

    decay_biases_and_norms: bool = False
    """Whether weight decay applies to biases and norms as well, as it does when AdamW is given all parameters."""

    max_grad_norm: Annotated[float, Field(gt=0)] | None
    """Gradients are clipped to this norm; null: no clipping."""

    precision: Literal["float32", "bfloat16"]
    """Precision of the matrix products. Weights and optimiser states are float32."""

    compile: bool
    """Whether to use torch.compile. It takes about a minute before step 1 and pays off for large models on a GPU."""

    skip_padding: bool = False
    """Whether the layers leave out padding wherever attention does not need it. Faster where rows are padded; the
    result differs by rounding and, with dropout, by other random numbers."""

    threads: PositiveInt | None
    """Processor threads. A fixed number makes the result independent of the machine's load; null: PyTorch's choice."""

    curriculum: Curriculum | None
    """Length curriculum; null: full rows from the first step."""

    patience: PositiveInt | None
    """Training stops after this number of validations without a lower NLL on [MASK]; null: never. With a curriculum,
    validations count once rows are full."""

    stop_after_escape: PositiveInt | None = None
    """Training stops this many steps after the run has left the unigram plateau (study/data/plateau.py); null: never.
    For studies of the plateau."""

    local_attention_from: Annotated[int, Field(ge=0)] | None = None
    """From this step on, every head attends to one position: the token on the left, the one on the right, the second on
    the left, and so on. null: attention is learned."""

    count_embeddings_at: Annotated[int, Field(ge=0)] | None = None
    """At this step, the embeddings of the tokens in the text, and with them a tied decoder, are replaced by ones made
    from counts of neighbouring tokens (study/data/count_embeddings.py). The optimiser's state stays. null: never."""

    attention_offsets: bool = False
    """Whether each validation records how much attention every head pays to the nearest positions."""

    logging_steps: PositiveInt
    """Steps between two records of the loss."""

    eval_steps: PositiveInt
    """Steps between two validations."""

    save_steps: PositiveInt
    """Steps between two checkpoints."""

    @model_validator(mode="after")
    def _steps_fit(self):
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} is more than steps {self.steps}")
        if self.skip_padding and self.compile:
            raise ValueError("skip_padding with compile: the number of tokens differs from step to step, so torch "
                             "would compile again and again; set one of them to false")
        if self.lr_scheduler_type == "inverse-sqrt" and not self.warmup_steps and self.steps:
            raise ValueError("lr_scheduler_type inverse-sqrt needs warmup_steps above 0, from which the rate decays")
        if self.batch_size % self.gradient_accumulation_steps:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of gradient_accumulation_steps "
                             f"{self.gradient_accumulation_steps}")
        return self
