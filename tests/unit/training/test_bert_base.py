"""The study bert-base: its schedule at full size, and a few steps of it at a reduced one."""
import pytest

from study.config.arms import resolve
from study.config.load import load_study
from study.training.schedule import learning_rate, phases
from study.training.trainer import Trainer
from tests.support.studies import ROOT, changed


@pytest.fixture(scope="module")
def bert_base():
    return resolve(load_study(ROOT / "experiments" / "bert-base"), "dynamic")


def test_a_million_steps_read_the_tokens_of_the_short_and_the_long_rows(bert_base):
    short, long = phases(bert_base)
    assert [(phase.end - phase.begin, phase.length, phase.batch_size) for phase in (short, long)] == [
        (900_000, 128, 256), (100_000, 512, 256)]
    tokens = sum((phase.end - phase.begin) * phase.length * phase.batch_size for phase in (short, long))
    assert tokens / 3.3e9 == pytest.approx(12.9, abs=0.05)              # epochs over BERT's corpus
    assert learning_rate(9_999, bert_base.training) == bert_base.training.learning_rate
    assert learning_rate(505_000, bert_base.training) == pytest.approx(bert_base.training.learning_rate / 2)


def test_it_trains_at_a_reduced_size(bert_base, data):
    small = changed(
        bert_base, examples={"max_seq_length": 32},
        model={"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
        training={"steps": 10, "warmup_steps": 2, "batch_size": 4, "gradient_accumulation_steps": 2, "eval_steps": 1,
                  "logging_steps": 1, "precision": "float32", "compile": False, "threads": 1})
    progress = Trainer(small, data, 0).train()
    assert (progress.status, progress.step) == ("finished", 10)
    assert progress.tokens == 4 * (9 * 8 + 32)
