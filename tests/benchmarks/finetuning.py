"""Fine-tuning speed against the Hugging Face Trainer, for reports/benchmarks.md: `make bench` runs it before speed.py.

Both sides train a classifier of the same shape on the same texts, whose lengths vary as in AG News, in the same
precision and with one thread, and count the same tokens (padding excluded). The Trainer groups texts by length, as ours
does. The two sides alternate in one process.
"""
from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time

import numpy as np
import torch

from study.finetuning.by_hand import DEFAULT
from study.finetuning.classifier import new_classifier
from study.finetuning.finetune import varied
from study.finetuning.fit import fit, optimisation
from study.finetuning.texts import Texts
from study.model.kernels import configure_processor
from study.objectives.pretraining_model import new_model
from study.training.pretrain import hardware, versions
from tests.benchmarks.speed import PRECISIONS, REPEATS, RESULTS, best, ratio
from tests.benchmarks.workload import SMALL, Shape, config_of, data_of, stamp

CLASSES, ROWS = 4, 6400
MEAN_LENGTH, SPREAD = 3.7, 0.35             # of the log-normal law of lengths: a median of 40 tokens


def texts_of(shape: Shape, rows: int) -> Texts:
    """Texts with [CLS] and [SEP], of different lengths and random classes."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(MEAN_LENGTH, SPREAD, rows)).astype(int), 4, shape.length)
    ids = [[2, *rng.integers(5, shape.vocabulary, length - 2).tolist(), 3] for length in lengths]
    return Texts(ids, [[0] * len(row) for row in ids], rng.integers(0, CLASSES, rows))


def our_speed(shape: Shape, texts: Texts, precision: str) -> float:
    """Tokens per second of one epoch."""
    config, data = config_of(shape, precision, threads=1), data_of(shape, 10_000)
    recipe = varied(DEFAULT, {"epochs": 1, "dropout": 0.1})
    source = new_model(config, shape.vocabulary, 0)
    classifier = new_classifier(source, config, recipe, data.tokenizer, CLASSES, 0, 0)
    began = time.perf_counter()
    done = fit(classifier, texts, optimisation(config, recipe, len(texts.ids), 1e-4), recipe, 0, 0)
    return done.tokens / (time.perf_counter() - began)


def trainer_speed(shape: Shape, texts: Texts, precision: str) -> float:
    """Tokens per second of one epoch of the Trainer."""
    from tokenizers import Tokenizer, models
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        DataCollatorWithPadding,
        PreTrainedTokenizerFast,
        Trainer,
        TrainingArguments,
    )

    backend = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    collator = DataCollatorWithPadding(PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]"))
    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids), "label": int(label)}
            for ids, label in zip(texts.ids, texts.labels, strict=True)]
    model = BertForSequenceClassification(BertConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.width, num_hidden_layers=shape.layers, num_labels=CLASSES,
        num_attention_heads=shape.heads, intermediate_size=4 * shape.width, max_position_embeddings=shape.length))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=DEFAULT.batch_size, num_train_epochs=1, learning_rate=1e-4,
            save_strategy="no", report_to="none", disable_tqdm=True, logging_steps=1000,
            train_sampling_strategy="group_by_length", bf16=precision == "bfloat16",
            use_cpu=not torch.cuda.is_available())
        trainer = Trainer(model, arguments, data_collator=collator, train_dataset=rows)
        began = time.perf_counter()
        trainer.train()
    return sum(map(len, texts.ids)) / (time.perf_counter() - began)


SPEEDS = {"trainer": trainer_speed, "ours": our_speed}


def workload(shape: Shape) -> str:
    return (f"{shape.layers} x {shape.width}, at most {shape.length} tokens, batch {DEFAULT.batch_size}, vocabulary "
            f"{shape.vocabulary:,}")


def run(shape: Shape, texts: Texts, repeats: int) -> dict:
    """Returns all measurements: {side: {precision: [one number per repetition]}}."""
    measured: dict = {side: {precision: [] for precision in PRECISIONS} for side in SPEEDS}
    for precision in PRECISIONS:
        for _ in range(repeats):
            for side, speed in SPEEDS.items():
                measured[side][precision].append(speed(shape, texts, precision))
    return measured


def summary(measured: dict) -> dict:
    """Returns the sides at their faster precision, each with its median, and our ratio to the Trainer."""
    sides = {side: best(measured, side) for side in SPEEDS}
    return {"sides": sides, "ratio": ratio(measured, "trainer", sides["ours"][0], sides["trainer"][0])}


def main() -> None:
    """Writes finetuning.json and prints the ratio, which should be at least 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args()
    configure_processor(1)
    texts = texts_of(SMALL, options.rows)
    content = stamp() | {"hardware": hardware(), "versions": versions(), "workload": workload(SMALL),
                         "rows": options.rows, "mean_length": float(np.mean([len(ids) for ids in texts.ids])),
                         "measured": run(SMALL, texts, options.repeats)}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "finetuning.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"fine-tuning, one thread: trainer x {summary(content['measured'])['ratio']['ratio']:.2f}")


if __name__ == "__main__":
    main()
