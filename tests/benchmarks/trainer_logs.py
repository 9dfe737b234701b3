"""Two real logs of `transformers`' Trainer, for the tests of `study doctor`: a run that is stuck and one that learns.

    python -m tests.benchmarks.trainer_logs stuck       BertForMaskedLM, absolute positions, learning rate 1e-3
    python -m tests.benchmarks.trainer_logs learning    RoFormerForMaskedLM, rotary positions, learning rate 3e-3,
                                                        initialisation for its width

Both have 2 layers of width 128 and train on WikiText-2 for 600 and 800 steps of 32 rows of 64 tokens, in float32 on
one thread, which takes about ten minutes each. Text: `train.parquet` and `validation.parquet` in wikitext-2-v1/ under
data/ or $STUDY_DATA. The WordPiece vocabulary of 8,192 entries is trained on it and kept in the temporary folder. The
log goes to tests/support/trainer_<name>.json with the fields that `study doctor` reads and no others.
"""
from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch

from study.config.schema import Tokenizer
from study.data.sources import data_folder
from study.data.wordpiece import save, train_wordpiece
from tests.support.studies import ROOT

STEPS = {"stuck": 600, "learning": 800}
ROWS, LENGTH, VALIDATION_ROWS = 32, 64, 256
SHORTEST = 50                               # characters; shorter lines are headings
SHAPE = {"vocab_size": 8192, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 512, "max_position_embeddings": LENGTH, "hidden_dropout_prob": 0.0,
         "attention_probs_dropout_prob": 0.0}
KEPT = ("global_step", "max_steps", "num_train_epochs", "train_batch_size", "logging_steps", "eval_steps")
ENTRY_KEYS = ("step", "epoch", "loss", "grad_norm", "learning_rate", "eval_loss")


def lines(split: str) -> list[str]:
    """The lines of a split without headings; unknown words are [UNK]."""
    text = pd.read_parquet(data_folder(ROOT) / "wikitext-2-v1" / f"{split}.parquet").text
    return [line.strip().replace("<unk>", "[UNK]") for line in text if len(line) > SHORTEST]


def load_tokenizer():
    """The tokenizer, trained at the first call."""
    from transformers import AutoTokenizer

    folder = Path(tempfile.gettempdir()) / "trainer-logs-tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        settings = Tokenizer(source="train", vocabulary_size=SHAPE["vocab_size"], lowercase=True, min_frequency=2)
        save(train_wordpiece(settings, lambda: lines("train")), folder)
    return AutoTokenizer.from_pretrained(folder)


def rows_of(tokenizer, split: str) -> list[dict]:
    """Rows of LENGTH tokens of a split, cut from its lines joined."""
    encoded = tokenizer(lines(split), add_special_tokens=False, return_attention_mask=False,
                        return_token_type_ids=False)
    ids = [token for line in encoded["input_ids"] for token in line]
    inner = LENGTH - 2
    return [{"input_ids": [tokenizer.cls_token_id, *ids[begin:begin + inner], tokenizer.sep_token_id]}
            for begin in range(0, len(ids) - inner, inner)]


def train(name: str) -> dict:
    """The state of the Trainer after a run, with the fields that are kept."""
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        DataCollatorForLanguageModeling,
        RoFormerConfig,
        RoFormerForMaskedLM,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(0)
    torch.set_num_threads(1)
    stuck, tokenizer = name == "stuck", load_tokenizer()
    model = (BertForMaskedLM(BertConfig(**SHAPE)) if stuck else
             RoFormerForMaskedLM(RoFormerConfig(**SHAPE, initializer_range=SHAPE["hidden_size"]**-0.5)))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=ROWS, per_device_eval_batch_size=ROWS, max_steps=STEPS[name],
            learning_rate=1e-3 if stuck else 3e-3, warmup_steps=60 if stuck else 250, adam_beta2=0.98,
            weight_decay=0.01, logging_steps=20, eval_strategy="steps", eval_steps=50, save_strategy="no",
            report_to="none", disable_tqdm=True, use_cpu=True, seed=0)
        trainer = Trainer(model, arguments, DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
                          train_dataset=rows_of(tokenizer, "train"),
                          eval_dataset=rows_of(tokenizer, "validation")[:VALIDATION_ROWS])
        trainer.train()
    state = vars(trainer.state)
    history = [{key: entry[key] for key in ENTRY_KEYS if key in entry} for entry in trainer.state.log_history]
    return {key: state[key] for key in KEPT} | {"log_history": [entry for entry in history if len(entry) > 2]}


if __name__ == "__main__":
    (run,) = sys.argv[1:]
    log = train(run)
    entries = ",\n".join(f"  {json.dumps(entry)}" for entry in log.pop("log_history"))
    head = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in log.items())
    path = ROOT / f"tests/support/trainer_{run}.json"
    path.write_text(f'{{\n{head} "log_history": [\n{entries}\n ]\n}}\n')
