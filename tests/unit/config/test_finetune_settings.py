"""Settings of fine-tuning: complete or absent, and each error is one line that says what to change."""
import re

import pytest
import yaml

from study import StudyError
from study.config.load import load_study
from study.config.yaml_files import parse_yaml
from tests.support.studies import ROOT


@pytest.fixture
def project(tmp_path):
    """Writes the settings of the tiny study to a folder, after a function has changed those of fine-tuning."""
    def write(change=lambda finetune: None):
        (tmp_path / "experiments").mkdir(exist_ok=True)
        (tmp_path / "experiments" / "arms.yaml").write_text((ROOT / "experiments/arms.yaml").read_text())
        content = parse_yaml((ROOT / "experiments/tiny/params.yaml").read_text()) | {"root": "."}
        change(content["finetune"])
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
        return load_study(tmp_path)
    return write


def recipe(**values):
    return lambda finetune: finetune["recipe"].update(values)


def task(**values):
    return lambda finetune: finetune["tasks"][0].update(values)


INVALID = {
    "an arm the study does not have": (lambda f: f.update(arms=["nobody"]), "finetune.arms: nobody is not among"),
    "no recipe": (lambda f: f.update(recipe=None), "recipe: missing; fine-tuning needs arms, tasks"),
    "no tasks": (lambda f: f.update(tasks=[]), "tasks: missing"),
    "an arm twice": (lambda f: f.update(arms=["dynamic", "dynamic"]), "arms: 'dynamic' is listed twice"),
    "a task twice": (lambda f: f["tasks"].append(f["tasks"][0]), "tasks: the name 'topic' is listed twice"),
    "a size twice": (recipe(train_sizes=[80, 80]), "finetune.recipe.train_sizes: 80 is listed twice"),
    "the text as label": (task(label="text"), "finetune.tasks.0: label: text is the column of the text as well"),
    "a text as its own pair": (task(text_pair="text"), "text_pair: text is the column of the text as well"),
    "the label as second text": (task(text_pair="label"), "text_pair: label is the column of the label as well"),
    "draws": (task(draws=2, train_rows=100), "draws: fine-tuning draws rows for each of recipe.train_sizes"),
    "no row per class held out": (recipe(train_sizes=[12]), "12 rows, 3 of them held out, are too few for the 4"),
    "more rows than the pool": (task(train_rows=50), "80 rows are more than the 50 of train_rows"),
    "no learning rate": (recipe(learning_rates=[]), "learning_rates"),
    "a warm-up of more than all steps": (recipe(warmup_fraction=1.5), "warmup_fraction"),
    "a causal arm read from its first token": (lambda f: (f.update(arms=["left-to-right"]), recipe(pooling="cls")(f)),
                                               "finetune.arms: left-to-right is a causal model, whose [CLS] sees no"),
    "an unknown pooling": (recipe(pooling="max"), "pooling"),
    "a negative number of frozen layers": (recipe(frozen_layers=-1), "frozen_layers"),
    "most of the layers": (recipe(frozen_layers="most"),
                           "finetune.recipe.frozen_layers: Input should be a valid integer or 'all' (found 'most')"),
    "a variant with most of the layers": (lambda f: f.update(variants={"a": {"frozen_layers": "most"}}),
                                          "variants: a: frozen_layers: Input should be a valid integer"),
    "a variant with an unknown setting": (lambda f: f.update(variants={"a": {"epoch": 3}}),
                                          "variants: a: unknown key epoch; did you mean epochs?"),
    "a variant with an impossible value": (lambda f: f.update(variants={"a": {"epochs": 0}}), "variants: a: epochs"),
    "a variant without changes": (lambda f: f.update(variants={"a": {}}), "variants: a changes no setting"),
    "a variant with other rows": (lambda f: f.update(variants={"a": {"train_sizes": [40]}}), "train_sizes is the same"),
    "a variant named as an encoder": (lambda f: f.update(variants={"untrained": {"epochs": 3}}), "choose another"),
    **{f"a variant named {name}": (lambda f, name=name: f.update(variants={name: {"epochs": 3}}),
                                   f"variants: {name} is the name of another entry of finetune.json; choose another")
       for name in ("rows", "labels", "majority")},
    "an unknown key": (recipe(learning_rate=1e-3), "did you mean finetune.recipe.learning_rates?"),
}


@pytest.mark.parametrize(("change", "message"), INVALID.values(), ids=INVALID)
def test_an_invalid_setting_is_one_line_that_says_what_to_change(project, change, message):
    with pytest.raises(StudyError, match=re.escape(message)) as error:
        project(change)
    assert "params.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_study_without_fine_tuning_names_no_arms_and_tasks(project):
    settings = project(lambda finetune: (finetune.clear(), finetune.update(arms=[], tasks=[]))).settings.finetune
    assert (settings.arms, settings.tasks, settings.recipe, settings.variants) == ([], [], None, {})
    assert load_study(ROOT).settings.finetune == settings


def test_empty_lists_turn_fine_tuning_off_and_may_leave_the_recipe(project):
    settings = project(lambda finetune: finetune.update(arms=[], tasks=[])).settings.finetune
    assert settings.recipe.epochs == 2
