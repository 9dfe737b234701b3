"""After an edit of the settings, a stage that is run by hand refuses what the earlier settings gave."""
import json
import shutil

import pytest
import yaml

from study.config.load import load_study
from study.config.made_with import (
    EVALUATED_WITH,
    FINETUNED_WITH,
    MADE_WITH,
    READS,
    SECTIONS,
    check_inputs,
    write_made_with,
)
from study.config.schema import StudyConfig
from study.config.yaml_files import parse_yaml
from study.orchestration.code_identity import SETTINGS
from tests.support.bad_input import (
    assert_refused,
    cases,
    edited,
    edited_entry,
    edited_finetuning,
    edited_task,
    exit_status,
    number_in,
    removed,
)
from tests.support.fake_arms import write_finetune
from tests.support.fake_results import compare, fake_study
from tests.support.studies import ROOT

CELL = ("--arm", "dynamic", "--seed", "0")
OPTIONS = {"pretrain": CELL, "evaluate": CELL, "finetune": CELL, "trials": CELL[:2]}


def recipe(**changes):
    """Changes the recipe of the arm static."""
    def spoil(root):
        path = root / "experiments/arms.yaml"
        arms = parse_yaml(path.read_text())
        arms["static"]["changes"] = changes
        path.write_text(json.dumps(arms))
    return spoil


# (command, what was edited, the edit, the older output and its settings): the message ends with what to run
TRAINED = [
    ("tokenizer", "length of documents", edited("corpus", document_tokens=110),
     "corpus/made_with.yaml: made with corpus.document_tokens 120, but the study's settings now give 110; run `study "
     "corpus` (or `dvc repro`) first"),
    ("tokenizer", "rows of a task", edited_task(train_rows=70), "made with probe.tasks"),
    ("examples", "language", edited("corpus", smoothing=0.2), "made with corpus.smoothing 0.3"),
    ("examples", "vocabulary", edited("tokenizer", lowercase=False),
     "tokenizer/made_with.yaml: made with tokenizer.lowercase True, but the study's settings now give False; run "
     "`study tokenizer`"),
    ("search", "test rows", edited("examples", test_rows=30), "examples/made_with.yaml: made with examples.test_rows"),
    ("search", "strength of the probe", edited("probe", regularization=[0.5]), "made with probe.regularization"),
    ("search", "vocabulary", edited("tokenizer", lowercase=False), "run `study tokenizer`"),
    ("trials", "seed of the masks", edited("examples", seed=9), "made with examples.seed 20190524"),
    ("pretrain", "weight decay", edited("training", weight_decay=0.5),
     "search/made_with.yaml: made with training.weight_decay 0.01, but the study's settings now give 0.5; run `study "
     "search`"),
    ("pretrain", "mask rate", edited("masking", mlm_probability=0.2), "made with masking.mlm_probability 0.15"),
    ("pretrain", "depth of the search", edited("search", steps=6), "made with search.steps 8"),
    ("pretrain", "length of rows", edited("examples", max_seq_length=64), "made with examples.max_seq_length 32"),
    ("pretrain", "another arm", recipe(masking={"schedule": "static", "dupe_factor": 3}), "made with recipes.static"),
    ("evaluate", "weight decay", edited("training", weight_decay=0.5),
     "dynamic-0/settings.yaml: has training.weight_decay 0.01, but the study's settings now give 0.5; run `study "
     "pretrain --arm dynamic --seed 0`"),
    ("evaluate", "size", edited("model", intermediate_size=48), "has model.intermediate_size 64"),
    ("evaluate", "folds", edited("probe", folds=3), "made with probe.folds 2"),
    ("evaluate", "language", edited("corpus", smoothing=0.2), "run `study corpus`"),
    ("evaluate", "examples made since", number_in("runs/tiny/examples/training_inputs.json", "train", value="ab"),
     "dynamic-0 was trained on other examples than those in runs/tiny/examples; run `study pretrain --arm dynamic "
     "--seed 0`"),
    ("evaluate", "tokenizer made since", number_in("runs/tiny/examples/training_inputs.json", "tokenizer", value="ab"),
     "runs/tiny/examples: made with another tokenizer than runs/tiny/tokenizer/tokenizer.json; run `study examples`"),
    ("finetune", "weight decay", edited("training", weight_decay=0.5),
     "dynamic-0/settings.yaml: has training.weight_decay 0.01, but the study's settings now give 0.5; run `study "
     "pretrain --arm dynamic --seed 0`"),
    ("finetune", "examples made since", number_in("runs/tiny/examples/training_inputs.json", "train", value="ab"),
     "dynamic-0 was trained on other examples than those in runs/tiny/examples"),
    ("pretrain", "examples without a record", removed("runs/tiny/examples/made_with.yaml"),
     "made_with.yaml: no such file, so an earlier version made this folder; run `study examples`"),
]


@pytest.fixture(scope="module")
def with_tasks(trained_tiny, tmp_path_factory):
    """The trained study with the rows of its fine-tuning task."""
    root = tmp_path_factory.mktemp("with_tasks") / "root"
    shutil.copytree(trained_tiny, root)
    assert exit_status(root, "tasks", "--task", "topic") == 0
    return root


TASKS = [
    ("finetune", "rows of its task", edited_finetuning(
        "task", labels=["topic-3", "topic-2", "topic-1", "topic-0"], test_rows=20),
     "tasks/topic/made_with.yaml: made with finetune.tasks.topic.labels ['topic-0', 'topic-1', 'topic-2', 'topic-3'], "
     "but the study's settings now give ['topic-3', 'topic-2', 'topic-1', 'topic-0']; run `study tasks --task topic` "
     "(or `dvc repro`) first"),
    ("finetune", "number of rows", edited_finetuning("task", test_rows=20),
     "made with finetune.tasks.topic.test_rows 40, but the study's settings now give 20"),
    ("finetune", "tokenizer", edited("tokenizer", lowercase=False), "run `study tokenizer`"),
    ("finetune", "rows without a record", removed("runs/tiny/tasks/topic/made_with.yaml"),
     "made_with.yaml: no such file, so an earlier version made this folder; run `study tasks --task topic` (or `dvc "
     "repro`) first"),
]


@pytest.mark.parametrize(("command", "spoil", "message"), cases(TASKS))
def test_fine_tuning_refuses_rows_of_earlier_settings(with_tasks, tmp_path, capsys, command, spoil, message):
    assert_refused(tmp_path / "root", with_tasks, spoil, message, capsys, command, *CELL)


def test_the_rows_of_a_task_do_not_depend_on_other_tasks_or_the_recipe(with_tasks, tmp_path):
    shutil.copytree(with_tasks, tmp_path / "root")
    edited_finetuning("recipe", epochs=7)(tmp_path / "root")
    path = tmp_path / "root" / "params.yaml"
    content = yaml.safe_load(path.read_text())
    content["finetune"]["tasks"].append(content["finetune"]["tasks"][0] | {"name": "more"})
    path.write_text(yaml.safe_dump(content))
    check_inputs(load_study(tmp_path / "root"), "finetune")


@pytest.mark.parametrize(("command", "spoil", "message"), cases(TRAINED))
def test_a_stage_refuses_what_earlier_settings_gave(trained_tiny, tmp_path, capsys, command, spoil, message):
    assert_refused(tmp_path / "root", trained_tiny, spoil, message, capsys, command, *OPTIONS.get(command, ()))


# commands that use a trained cell with the tokenizer that is there
WITH_TOKENIZER = [("predict", "a [MASK]", "--cells", "dynamic-0"), ("encode", "a", "--cell", "dynamic-0"),
                  ("minimal-pairs", "dynamic-0", "--task", "pairs.csv"),
                  ("finetune", "dynamic-0", "--task", "rows.csv")]


@pytest.mark.parametrize("command", WITH_TOKENIZER, ids=lambda command: command[0])
def test_a_cell_is_not_used_with_a_tokenizer_that_was_made_since(trained_tiny, tmp_path, capsys, command):
    spoil = number_in("runs/tiny/examples/training_inputs.json", "tokenizer", value="ab")
    assert_refused(tmp_path / "root", trained_tiny, spoil, "runs/tiny/examples: made with another tokenizer than "
                   "runs/tiny/tokenizer/tokenizer.json; run `study examples`", capsys, *command)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Results of a study that nobody trained, compared, with the records of their settings."""
    study = fake_study(tmp_path_factory.mktemp("compared") / "project")
    for cell in study.cells:
        write_made_with(study, "evaluate", study.cell(*cell) / EVALUATED_WITH)
    for seed in study.settings.seeds:
        write_finetune(study, "dynamic", seed)
    compare(study)
    return study.folder


COMPARED = [
    ("compare", "probe", edited("probe", folds=3), "evaluated_with.yaml: made with probe.folds 2, but the study's "
     "settings now give 3; run `study evaluate --arm dynamic --seed 0` (or `dvc repro`) first"),
    ("compare", "rows per batch", edited("evaluation", batch_size=8), "made with evaluation.batch_size 16"),
    ("compare", "optimiser", edited("training", adam_beta2=0.9), "dynamic-0 was trained with training.adam_beta2 0.98"),
    ("report", "seeds", edited(None, seeds=[0]), "tables/made_with.yaml: made with seeds [0, 1], but the study's "
     "settings now give [0]; run `study compare` (or `dvc repro`) first"),
    ("report", "baseline", edited(None, baseline="static"), "made with baseline 'dynamic'"),
    ("report", "optimiser", edited("training", adam_beta2=0.9), "made with training.adam_beta2 0.98"),
    ("report", "claim", edited_entry("claims.yaml", "L2", margin=0.3), "claims.json: L2 was edited since in"),
    ("report", "tables of an earlier version", lambda root: (
        removed("reports/tiny/tables/made_with.yaml")(root), edited("training", adam_beta2=0.9)(root)),
     "dynamic-0 was trained with training.adam_beta2 0.98"),
    ("track", "optimiser", edited("training", adam_beta2=0.9), "dynamic-0 was trained with training.adam_beta2 0.98"),
    ("track", "probe", edited("probe", folds=3), "evaluated_with.yaml: made with probe.folds 2"),
    ("compare", "recipe for fine-tuning", edited_finetuning("recipe", epochs=3),
     "dynamic-0/finetuned_with.yaml: made with finetune.recipe.epochs 2, but the study's settings now give 3; run "
     "`study finetune --arm dynamic --seed 0` (or `dvc repro`) first"),
    ("compare", "task of fine-tuning", edited_finetuning("task", test_rows=20),
     "made with finetune.tasks.topic.test_rows 40"),
    ("compare", "fine-tuning without a record", removed(f"runs/tiny/dynamic-0/{FINETUNED_WITH}"),
     "finetuned_with.yaml: no such file, so an earlier version fine-tuned this cell; run `study finetune --arm dynamic "
     "--seed 0` (or `dvc repro`) first"),
    ("compare", "a cell that was not fine-tuned", removed("runs/tiny/dynamic-1/finetune.json"),
     "dynamic-1/finetune.json: no such file, but other cells of dynamic have it; run `study finetune --arm dynamic "
     "--seed 1` (or `dvc repro`) first"),
    ("compare", "fine-tuning of an arm that is not listed now", lambda root: (
        edited("finetune", arms=["static"])(root), edited_finetuning("recipe", epochs=3)(root)),
     "finetune.json: dynamic-0 was fine-tuned with other settings than the study has now, and dynamic is no longer "
     "among finetune.arms; add it in params.yaml, or delete this file"),
    ("report", "recipe for fine-tuning", edited_finetuning("recipe", epochs=3), "made with finetune.recipe.epochs 2"),
    ("report", "fine-tuning without a record", removed(f"runs/tiny/dynamic-0/{FINETUNED_WITH}"),
     "finetuned_with.yaml: no such file"),
    ("track", "recipe for fine-tuning", edited_finetuning("recipe", epochs=3),
     "finetuned_with.yaml: made with finetune.recipe.epochs 2"),
]


@pytest.mark.parametrize(("command", "spoil", "message"), cases(COMPARED))
def test_results_of_earlier_settings_are_not_compared_reported_or_tracked(compared, tmp_path, capsys, command, spoil,
                                                                          message):
    assert_refused(tmp_path / "root", compared, spoil, message, capsys, command)


def test_a_stage_runs_again_after_the_earlier_one_and_after_the_edit_is_undone(trained_tiny, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(trained_tiny, root)
    before = (root / "params.yaml").read_text()
    edited("corpus", smoothing=0.2)(root)
    assert exit_status(root, "tokenizer") == 2
    (root / "params.yaml").write_text(before)
    assert exit_status(root, "tokenizer") == 0
    edited("corpus", smoothing=0.2)(root)
    for stage in ("corpus", "tokenizer", "examples"):
        assert exit_status(root, stage) == 0
    assert yaml.safe_load((root / "runs/tiny/examples" / MADE_WITH).read_text())["corpus"]["smoothing"] == 0.2


def test_a_setting_at_its_default_may_be_written_or_left_out(trained_tiny, tmp_path):
    shutil.copytree(trained_tiny, tmp_path / "root")
    edited_task(draws=1)(tmp_path / "root")
    study = load_study(tmp_path / "root")
    for stage in READS:
        check_inputs(study, stage)


def test_a_stage_depends_on_the_settings_that_dvc_yaml_lists():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage in ("corpus", "tokenizer", "examples", "search", "tasks"):
        assert {*SECTIONS[stage], "name"} == {*stages[stage]["params"], "name"}
    before = [section.partition(".")[0] for stage in READS["evaluate"] for section in SECTIONS[stage]]
    assert set(SETTINGS["evaluate"]) == {*SECTIONS["evaluate"], *before}
    assert set(stages["code"]["params"]) == {"name", "arms", "finetune", *SETTINGS["evaluate"]}
    assert set(stages["compare"]["params"]) <= set(SECTIONS["compare"])
    listed = {name.partition(".")[0] for names in SECTIONS.values() for name in names}
    assert listed | {"name", "root"} == set(StudyConfig.model_fields)


def test_a_stage_reads_the_folders_that_dvc_yaml_lists():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage in ("corpus", "tokenizer", "examples", "search"):
        paths = [path for path in stages[stage]["deps"] if path.startswith("runs/")]
        assert {path.split("/")[2] for path in paths} == set(READS[stage])
    assert {f"runs/${{name}}/{folder}" for folder in READS["finetune"]} <= set(stages["finetune"]["deps"])
