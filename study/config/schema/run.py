"""Settings of one run: everything that training reads, apart from the seed and the text."""
from __future__ import annotations

from pydantic import model_validator

from study.config.schema.base import Settings
from study.config.schema.model import Model
from study.config.schema.rows import PAIR_FORMATS, SHORTEST_ROW, Examples, Inputs, Masking, Objective, Tokenizer
from study.config.schema.training import Training


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
        sees_mask = not causal and self.masking.mask > 0            # as in study/config/corruption.py
        if self.training.patience is not None and not sees_mask:
            raise ValueError("training.patience watches the NLL on [MASK], so it needs objective.token_objective mlm "
                             "and masking.mask above 0")
        unlike_validation = not sees_mask or self.inputs.format in PAIR_FORMATS
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
