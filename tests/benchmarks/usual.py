"""The usual script at a shape of ours: `transformers`' Trainer, DataCollatorForLanguageModeling, BertForMaskedLM."""
from __future__ import annotations

import contextlib
import io
import tempfile
import time

import torch

from tests.benchmarks.workload import SPECIALS, Shape, data_of


def usual_speed(shape: Shape, precision: str, seconds: float, warmup: int = 2) -> float:
    """Tokens a second of Trainer, from the end of step `warmup` to the first step that ends after `seconds`."""
    from tokenizers import Tokenizer, models
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        DataCollatorForLanguageModeling,
        PreTrainedTokenizerFast,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    vocabulary = {word: number for number, word in enumerate((*SPECIALS, *map(str, range(len(SPECIALS),
                                                                                         shape.vocabulary))))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]",
                                        cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    ids = data_of(shape).train.ids
    inner = shape.length - 2
    rows = [{"input_ids": [2, *ids[begin:begin + inner].tolist(), 3]} for begin in range(0, len(ids) - inner, inner)]
    model = BertForMaskedLM(BertConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.width, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, intermediate_size=4 * shape.width, max_position_embeddings=shape.length,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))

    class Clock(TrainerCallback):
        began, steps = 0.0, 0

        def on_step_end(self, arguments, state, control, **more):
            now = time.perf_counter()
            if state.global_step == warmup:
                self.began = now
            self.steps, self.took = state.global_step - warmup, now - self.began
            control.should_training_stop = self.steps > 0 and self.took > seconds

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=shape.rows, max_steps=10_000, learning_rate=1e-4, save_strategy="no",
            logging_steps=50, report_to="none", disable_tqdm=True, bf16=precision == "bfloat16",
            use_cpu=not torch.cuda.is_available())
        trainer = Trainer(model, arguments, DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
                          train_dataset=rows, callbacks=[clock])
        trainer.train()
    return clock.steps * shape.rows * shape.length / clock.took
