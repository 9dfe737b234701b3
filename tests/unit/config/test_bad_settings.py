"""Impossible settings: one line that names the file and the key and says what to do, exit status 2, nothing written."""
from functools import partial

import pytest
from pydantic import ValidationError

from study.config.load import load_study
from study.config.schema import Text
from tests.support.bad_input import (
    assert_refused,
    cases,
    edited,
    edited_entry,
    edited_task,
    removed,
    settings_project,
    written,
)
from tests.support.studies import ROOT

arm = partial(edited_entry, "arms.yaml")
SETTINGS = [
    ("unknown key", edited("training", learning_rat=1), "training.learning_rat; did you mean training.learning_rate?"),
    ("wrong type", edited("training", learning_rate="fast"), "training.learning_rate"),
    ("half a step", edited("training", steps=1.5), "training.steps"),
    ("no rate", edited("masking", mlm_probability=0), "masking.mlm_probability"),
    ("rate over one", edited("masking", mlm_probability=1.5), "masking.mlm_probability"),
    ("shares over one", edited("masking", mask=0.9), "mask + random + keep must be 1"),
    ("endless rate", edited("training", learning_rate=float("inf")), "training.learning_rate"),
    ("heads", edited("model", num_attention_heads=5), "is not a multiple of num_attention_heads 5"),
    ("rows too short", edited("examples", max_seq_length=4), "examples.max_seq_length"),
    ("warm-up beyond the end", edited("training", warmup_steps=10**6), "is more than steps"),
    ("accumulation", edited("training", gradient_accumulation_steps=3),
     "is not a multiple of gradient_accumulation_steps 3"),
    ("curriculum", edited("training", curriculum={"step_fraction": 0.5, "length_fraction": 0.3}),
     "training.curriculum.length_fraction"),
    ("topics without names", edited("corpus", topics=8), "task topic: 4 labels, but corpus.topics is 8"),
    ("pairs need pairs", edited("objective", sentence_objective="nsp"), "needs inputs.format segment-pairs"),
    ("no seeds", edited(None, seeds=[]), "seeds"),
    ("repeated seeds", edited(None, seeds=[1, 1]), "seeds: 1 is listed twice"),
    ("repeated arms", edited(None, arms=["dynamic", "static", "static"]), "arms: 'static' is listed twice"),
    ("no arms", edited(None, arms=[]), "arms"),
    ("unknown arm", edited(None, arms=["dynamic", "statc"]), "unknown arm 'statc'; did you mean static?"),
    ("baseline outside", edited(None, arms=["static"]), "is not among the study's arms"),
    ("causal baseline", edited(None, arms=["dynamic", "left-to-right"], baseline="left-to-right"),
     "choose a masked one"),
    ("searched seed", edited("search", seed=0), "search.seed 0 is one of the reported seeds"),
    ("searched setting", edited("search", space={"training.speed": {"low": 1, "high": 2, "log": False}}),
     "is not a setting"),
    ("searched range", edited("search", space={"training.learning_rate": {"low": 2, "high": 1, "log": False}}),
     "search.space.training.learning_rate"),
    ("logarithm of nothing", edited("search", space={"training.learning_rate": {"low": 0, "high": 1, "log": True}}),
     "search.space.training.learning_rate"),
    ("searched arm is not trained", edited("search", arms=["untrained"]), "untrained is not trained"),
    ("one fold", edited("probe", folds=1), "probe.folds"),
    ("no tasks", edited("probe", tasks=[]), "probe.tasks"),
    ("no pooling", edited("probe", poolings=[]), "probe.poolings"),
    ("no C", edited("probe", regularization=[]), "probe.regularization"),
    ("one class", edited_task(labels=["only"]), "labels"),
    ("words that YAML reads as true", edited_task(labels=[True, False]),
     "probe.tasks.0.labels.0: YAML reads yes, no, on and off as true and false; put quotes around such words (found "
     "True)"),
    ("draws of all rows", edited_task(draws=2), "draws: 2 draws need train_rows"),
    ("no draw", edited_task(draws=0), "draws"),
    ("a study outside", edited(None, name="../../elsewhere"), "name"),
    ("data outside", edited_task(local="../../../etc"), "local"),
    ("data at an absolute path", edited_task(local="/etc"), "local"),
    ("root without arms", edited(None, root="experiments"), "does not lead to experiments/arms.yaml"),
    ("not YAML", written("params.yaml", "study: [\n"), "params.yaml: cannot be read as YAML"),
    ("nothing", written("params.yaml", ""), "params.yaml: expected keys and values"),
    ("bytes", written("params.yaml", b"\xff\xfe\x00study"), "params.yaml: cannot be read"),
    ("no settings", removed("params.yaml"), "params.yaml: no such file"),
    ("arm without baseline", arm("static", baseline="dynamik"),
     "static.baseline: unknown arm 'dynamik'; did you mean"),
    ("arm of itself", arm("dynamic", baseline="static"), "baselines form a cycle"),
    ("arm's unknown key", arm("static", changes={"masking": {"schedul": "static"}}), "did you mean masking.schedule?"),
    ("arm's impossible value", arm("static", changes={"masking": {"mlm_probability": 3}}), "static.changes"),
    ("arm that changes nothing", arm("static", changes={}), "does not differ from its baseline dynamic"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("settings") / "project"
    settings_project(root)
    return root


def test_the_settings_are_valid_before_they_are_spoiled(project):
    assert load_study(project).settings.arms


@pytest.mark.parametrize(("spoil", "message"), cases(SETTINGS))
def test_impossible_settings_are_refused(project, tmp_path, capsys, spoil, message):
    assert_refused(tmp_path / "root", project, spoil, message, capsys, "corpus")


@pytest.mark.parametrize(("changes", "message"), [
    ({"layout": "documents", "headings": True}, "only layout wikitext marks headings"),
    ({"layout": "sentences", "sentences": "periods"}, "with layout sentences a row is one sentence"),
    ({"layout": "sentences", "min_characters": 50}, "with layout sentences a row is one sentence")])
def test_settings_of_a_text_that_its_layout_would_ignore_are_refused(changes, message):
    settings = load_study(ROOT / "experiments/wikitext2").settings.corpus.model_dump()
    with pytest.raises(ValidationError, match=message):
        Text(**settings | changes)
