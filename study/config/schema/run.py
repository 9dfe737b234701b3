"""Settings of one run, section by section: everything that training reads, apart from the seed and the text."""
from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from study.config.schema.base import Fraction, PositiveFraction, RelativePath, Settings

WITH_POSITION_EMBEDDINGS = ("absolute", "rotary-and-absolute")      # values of model.positions
PAIR_FORMATS = ("segment-pairs", "sentence-pairs", "paragraph-pairs")
FORMATS = ("full-sentences", "document-sentences", *PAIR_FORMATS, "paragraphs")
SHORTEST_ROW = 8                            # tokens


class Tokenizer(Settings):
    """The vocabulary. Words are split into pieces as in WordPiece; with `words` they stay whole."""

    source: RelativePath
    """`train` to train on the corpus, `words` for its whole words, separated by white space, `characters` for its
    characters, `lexicon` for the words of the synthetic corpus, a vocab.txt or tokenizer.json or a folder with one
    (next to experiments/, or below data/ or STUDY_DATA), or a hub id."""

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
    """A validation as tutorials do it: one paragraph per row, padded or cut, masked anew each time with the masking of
    the run. The result is the mean over batches of the mean NLL of a batch."""

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

    seed: int
    """Seed of the masks of the evaluation sets."""

    remasked: Remasked | None = None
    """A second validation with masks that are drawn anew; null: none."""


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


class Model(Settings):
    """The encoder and its heads. Names follow `transformers.BertConfig` where it has one."""

    hidden_size: PositiveInt
    """Width of the encoder."""

    num_hidden_layers: PositiveInt
    """Number of layers."""

    num_attention_heads: PositiveInt
    """Attention heads per layer. It must divide `hidden_size`."""

    intermediate_size: PositiveInt
    """Width of the feed-forward layers."""

    norm: Literal["post", "pre"]
    """Layer norm after each residual connection (BERT), or before each sublayer and after the last layer."""

    embedding_norm: bool
    """Whether the embeddings are normalised before the first layer."""

    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Dropout probability of the embeddings, the attention weights and the output of every sublayer."""

    embedding_scale: Literal["one", "root-width"] = "one"
    """What token embeddings are multiplied by before positions are added: 1, or the square root of the width (Vaswani
    et al. 2017)."""

    positions: Literal["absolute", "rotary", "rotary-and-absolute", "relative", "alibi"] = "absolute"
    """`absolute`: an embedding per position (BERT). `rotary`: queries and keys are rotated by their position
    (RoFormer). `rotary-and-absolute`: both. `relative`: a learned bias per distance is added to the attention scores
    (T5). `alibi`: a fixed penalty that grows with the distance is subtracted from them (ALiBi, in both directions)."""

    position_initialization: Literal["normal", "sinusoidal"] = "normal"
    """Position embeddings at the start: drawn like the other embeddings, or sines and cosines (Vaswani et al. 2017)
    with the same root mean square. Both are trained."""

    hidden_act: Literal["gelu", "relu"] = "gelu"
    """Activation of the feed-forward layers and of the dense layer before the decoder."""

    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-12
    """Added to the variance in every layer norm."""

    embedding_dropout: bool = True
    """Whether dropout applies to the embeddings too."""

    initialization: Literal["width-aware", "bert", "torch"]
    """`width-aware`: standard deviation 1/sqrt(fan_in) for linear layers, 0.1 for embeddings. `bert`: 0.02.
    `torch`: PyTorch's defaults."""

    tied_decoder: bool
    """Whether the decoder shares its weights with the token embeddings."""

    decoder_transform: bool
    """Whether BERT's dense layer, its activation and a layer norm precede the decoder."""

    @model_validator(mode="after")
    def _heads_divide_width(self):
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                             f"{self.num_attention_heads}")
        if self.positions.startswith("rotary") and self.hidden_size // self.num_attention_heads % 2:
            raise ValueError(f"positions {self.positions} needs an even width per head, not hidden_size "
                             f"{self.hidden_size} / num_attention_heads {self.num_attention_heads}")
        if self.position_initialization != "normal" and self.positions not in WITH_POSITION_EMBEDDINGS:
            raise ValueError(f"position_initialization {self.position_initialization} needs positions "
                             f"{' or '.join(WITH_POSITION_EMBEDDINGS)}, not {self.positions}")
        return self


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
    """Micro-batches per step. The gradient equals that of one large batch."""

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

    threads: PositiveInt | None
    """Processor threads. A fixed number makes the result independent of the machine's load; null: PyTorch's choice."""

    curriculum: Curriculum | None
    """Length curriculum; null: full rows from the first step."""

    patience: PositiveInt | None
    """Training stops after this number of validations without a lower NLL on [MASK]; null: never."""

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
        if self.lr_scheduler_type == "inverse-sqrt" and not self.warmup_steps and self.steps:
            raise ValueError("lr_scheduler_type inverse-sqrt needs warmup_steps above 0, from which the rate decays")
        if self.batch_size % self.gradient_accumulation_steps:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of gradient_accumulation_steps "
                             f"{self.gradient_accumulation_steps}")
        return self


class Recipe(Settings):
    """The sections that params.yaml and the settings of a run share."""

    tokenizer: Tokenizer
    examples: Examples
    inputs: Inputs
    masking: Masking
    objective: Objective
    model: Model
    training: Training

    @model_validator(mode="after")
    def _sections_fit(self):
        sentence, causal = self.objective.sentence_objective, self.objective.token_objective == "causal"
        if sentence != "none" and self.inputs.format not in PAIR_FORMATS:
            raise ValueError(f"objective.sentence_objective {sentence} needs inputs.format "
                             f"{' or '.join(PAIR_FORMATS)}, not {self.inputs.format}")
        if sentence == "sop" and self.inputs.format == "paragraph-pairs":
            raise ValueError("objective.sentence_objective sop needs inputs.format segment-pairs or sentence-pairs: "
                             "paragraph-pairs draws its negatives from the whole text")
        if sentence != "none" and causal:
            raise ValueError(f"objective.sentence_objective {sentence} needs objective.token_objective mlm: with "
                             f"causal attention [CLS] sees neither segment")
        if self.training.patience is not None and causal:
            raise ValueError("training.patience watches the NLL on [MASK], which objective.token_objective causal does "
                             "not have")
        unlike_validation = causal or self.inputs.format in PAIR_FORMATS or self.masking.mask == 0
        if self.training.stop_after_escape is not None and unlike_validation:
            raise ValueError("training.stop_after_escape watches the NLL on [MASK] in rows of one segment, so it needs "
                             "objective.token_objective mlm, an inputs.format without pairs and masking.mask above 0")
        if self.inputs.prepared and (causal or self.masking.schedule != "static"):
            raise ValueError("inputs.prepared needs objective.token_objective mlm and masking.schedule static: rows "
                             "that are made before training have the same masks in every epoch")
        remasked = self.examples.remasked
        if remasked is not None and remasked.steps % self.training.eval_steps:
            raise ValueError(f"examples.remasked.steps {remasked.steps} is not a multiple of training.eval_steps "
                             f"{self.training.eval_steps}")
        if self.training.position_learning_rate != 1 and self.model.positions in ("rotary", "alibi"):
            raise ValueError(f"training.position_learning_rate needs positions that are learned, not model.positions "
                             f"{self.model.positions}")
        if self.training.curriculum is not None:
            full = self.examples.max_seq_length
            short = full * self.training.curriculum.length_fraction
            if short < SHORTEST_ROW or short % 1 or full % short:
                raise ValueError(f"training.curriculum.length_fraction gives rows of {short:g} tokens; rows must have "
                                 f"at least {SHORTEST_ROW} tokens, and their length must divide "
                                 f"examples.max_seq_length {full}")
        return self
