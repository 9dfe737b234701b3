"""The peer: `transformers`' Trainer with DataCollatorForLanguageModeling and BertForMaskedLM, at the same shape."""
from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable

import torch

from tests.benchmarks.workload import LEAST, SPECIALS, WARMUP, Shape, data_of


def trainer_speed(shape: Shape, precision: str, seconds: float) -> float:
    """Tokens per second of Trainer, from the end of the warm-up to the first step that ends after `seconds`."""
    times: list[float] = []

    def enough() -> bool:
        times.append(time.perf_counter())
        return len(times) > WARMUP + LEAST and times[-1] - times[WARMUP] > seconds

    run_trainer(shape, precision, enough)
    return (len(times) - 1 - WARMUP) * shape.rows * shape.length / (times[-1] - times[WARMUP])


def run_trainer(shape: Shape, precision: str, after_step: Callable[[], bool]) -> None:
    """Trains until `after_step`, which is called at the end of every step, returns true."""
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
        def on_step_end(self, arguments, state, control, **more):
            control.should_training_stop = after_step()

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=shape.rows, max_steps=10_000, learning_rate=1e-4, save_strategy="no",
            logging_steps=50, report_to="none", disable_tqdm=True, bf16=precision == "bfloat16",
            use_cpu=not torch.cuda.is_available())
        trainer = Trainer(model, arguments, DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
                          train_dataset=rows, callbacks=[Clock()])
        trainer.train()
