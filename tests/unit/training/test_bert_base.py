"""The study bert-base: its schedule at full size, and a few steps of it at a reduced one."""
import re
import shutil
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from study.cli.app import app
from study.config.arms import resolve
from study.config.fingerprint import settings_yaml
from study.config.load import load_study
from study.data.wordpiece import build_tokenizer
from study.orchestration import dvc_commands
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


@pytest.fixture
def cased(tmp_path):
    """The study with the changes that the head of its params.yaml gives for the cased vocabulary."""
    folder = tmp_path / "experiments" / "bert-base"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "experiments" / "arms.yaml", folder.parent)
    params = (ROOT / "experiments" / "bert-base" / "params.yaml").read_text()
    head = params.partition("\nversion:")[0].replace("\n# ", " ")
    changes = re.findall(r"`(\w+): ([^`]+)`", head.partition("For the cased vocabulary, set ")[2])
    assert [key for key, _ in changes] == ["source", "vocabulary_size", "lowercase"]
    for key, value in changes:
        params, count = re.subn(rf"^(  {key}): .*$", rf"\1: {value}", params, flags=re.M)
        assert count == 1
    (folder / "params.yaml").write_text(params)
    return load_study(folder)


def test_the_cased_variant_has_bert_base_cased_and_keeps_the_case(cased, bert_base):
    config = resolve(cased, "dynamic")
    assert (config.tokenizer.source, config.tokenizer.vocabulary_size, config.tokenizer.lowercase) == (
        "google-bert/bert-base-cased", 28_996, False)
    assert config.tokenizer.strip_accents is None                       # as `lowercase`, so accents stay
    assert config.model_copy(update={"tokenizer": bert_base.tokenizer}) == bert_base
    assert settings_yaml(config) != settings_yaml(bert_base)


def test_the_cased_variant_reads_a_cased_vocabulary(cased, monkeypatch):
    """The vocabulary here is a small one of that name in the folder of local data."""
    monkeypatch.delenv("STUDY_DATA", raising=False)
    settings, warnings = resolve(cased, "dynamic").tokenizer, []
    folder = cased.root / "data" / settings.source
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nParis\nparis\nKöln\n", encoding="utf-8")
    backend = build_tokenizer(settings, list, None, cased.root, warnings)
    assert backend.encode("Paris paris Köln köln").tokens == ["[CLS]", "Paris", "paris", "Köln", "[UNK]", "[SEP]"]
    assert warnings == []


def test_its_plan_counts_epochs_of_a_stated_number_of_words(monkeypatch):
    monkeypatch.setattr(dvc_commands, "planned_cells",
                        lambda study: SimpleNamespace(missing=[], trained=[], to_run=lambda allow_missing: []))
    command = ["plan", str(ROOT / "experiments" / "bert-base"), "--no-measure"]
    unknown, stated = (CliRunner(env={"COLUMNS": "160"}).invoke(app, [*command, *words]).output
                       for words in ([], ["--words", "3.3e9"]))
    assert re.search(r"dynamic\W+3\W+0\W+42,598,400,000\W+12\.9\W+2\.3e\+19", stated)
    assert "epochs of 3,300,000,000 words, one token for each" in " ".join(stated.split())
    assert "12.9" not in unknown
    assert "3,300,000,000" not in unknown
