"""Settings: complete, strict, and an error that names the file, the key and the remedy."""
import warnings

import pytest
import yaml

from study import StudyError
from study.config.load import create_study, fingerprint, load_study, resolve, validated
from study.config.schema import Arm, Curriculum, StudyConfig
from tests.support.studies import ROOT

FAULTS = [
    ("training", {"learning_rat": 1}, "did you mean learning_rate"), ("model", {"hiden_size": 1}, "hidden_size"),
    ("training", {"learning_rate": None}, "training.learning_rate"), ("training", {"learning_rate": "fast"}, "found"),
    ("model", {"num_attention_heads": 5}, "multiple of num_attention_heads"), ("masking", {"mlm_probability": 0}, "masking.mlm_probability"),
    ("masking", {"mlm_probability": 1.5}, "masking.mlm_probability"), ("masking", {"mask": 0.9}, "must be 1"),
    ("training", {"warmup_steps": 99999}, "more than steps"), ("training", {"batch_size": 0}, "batch_size"),
    ("training", {"accumulation": 3}, "multiple of accumulation"), ("model", {"dropout": 1.0}, "dropout"),
    ("masking", {"selection": "words"}, "selection"), ("inputs", {"format": "rows"}, "format"),
    ("examples", {"length": 2}, "length"), ("search", {"seed": 0}, "one of the reported seeds"),
    ("search", {"arms": ["nobody"]}, "not among the study's arms"),
    ("search", {"space": {"training.speed": {"low": 1, "high": 2, "log": False}}}, "is no setting"),
    ("search", {"space": {"training.warmup_steps": {"low": 1, "high": 2, "log": False}}}, "no number with a fraction"),
    ("probe", {"train_sizes": [2]}, "fewer than the"),
    ("objective", {"sentence_objective": "nsp"}, "needs inputs.format"), ("corpus", {"kind": "poems"}, "corpus"),
    ("model", {"hidden_size": True}, "hidden_size"), ("training", {"steps": 1.5}, "steps"),
]


def project(tmp_path, change=None):
    """A project of settings alone; `change` edits the parameters."""
    (tmp_path / "experiments").mkdir(exist_ok=True)
    (tmp_path / "experiments" / "arms.yaml").write_text((ROOT / "experiments/arms.yaml").read_text())
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["training"]["adam_epsilon"] = 1e-6
    if change:
        change(content)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


@pytest.mark.parametrize(("section", "values", "said"), FAULTS)
def test_a_wrong_setting_is_one_line_with_file_key_and_remedy(tmp_path, section, values, said):
    with pytest.raises(StudyError) as error:
        load_study(project(tmp_path, lambda content: content[section].update(values)))
    assert "params.yaml" in str(error.value) or "arms.yaml" in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_repeated_keys(tmp_path):
    with pytest.raises(StudyError, match="missing key masking.mlm_probability"):
        load_study(project(tmp_path, lambda content: content["masking"].pop("mlm_probability")))
    folder = project(tmp_path)
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text + "seeds: [5]\n")
    with pytest.raises(StudyError, match="'seeds' stands twice"):
        load_study(folder)
    with pytest.raises(StudyError, match="no such file"):
        load_study(tmp_path / "nowhere")


def test_a_misspelt_key_is_named_before_the_one_that_is_missing_for_it(tmp_path):
    def misspelt(content):
        content["training"]["learning_rte"] = content["training"].pop("learning_rate")

    with pytest.raises(StudyError, match=r"unknown key training\.learning_rte; did you mean learning_rate\?"):
        load_study(project(tmp_path, misspelt))
    with pytest.raises(StudyError, match=r"unknown key model\.depht; remove it"):
        load_study(project(tmp_path, lambda content: content["model"].update(depht=3)))


def test_paths_of_a_study_do_not_go_up_and_down(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert str(load_study("experiments/tiny").reports) == "reports/tiny"
    monkeypatch.chdir(ROOT / "experiments/tiny")
    assert str(load_study().reports) == "../../reports/tiny"


def test_unknown_arm_names_the_nearest(tmp_path):
    with pytest.raises(StudyError, match="did you mean dynamic"):
        load_study(project(tmp_path, lambda content: content.update(arms=["dynamic", "dynamc"])))


def test_times_scales_a_number(study):
    arms = dict(study.arms)
    changes = {"training": {"learning_rate": {"times": 3}, "steps": {"times": 0.5}}}
    arms["fast"] = arms["dynamic"].model_copy(update={"changes": changes})
    changed = resolve(study.model_copy(update={"arms": arms}), "fast").training
    base = resolve(study, "dynamic").training
    assert changed.learning_rate == pytest.approx(3 * base.learning_rate)
    assert changed.steps == base.steps // 2


def flat(content, prefix=""):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize("name", list(yaml.safe_load((ROOT / "experiments/arms.yaml").read_text())))
def test_an_arm_differs_from_its_baseline_in_what_it_declares(study, name):
    arm = study.arms[name]
    if arm.baseline is None:
        assert name == "dynamic" or arm.factor == "recipe"
        return
    own, other = (dict(flat(resolve(study, n).model_dump())) for n in (name, arm.baseline))
    declared = dict(flat(arm.changes)).keys()
    different = {key for key in own if own[key] != other.get(key)}
    assert different
    together = [{"masking.mask", "masking.random", "masking.keep"}, {"masking.schedule", "masking.dupe_factor"},
                {"training.steps", "training.warmup_steps"}, {"model.hidden_size", "model.intermediate_size"},
                {"training.curriculum.share", "training.curriculum.length", "training.curriculum"},
                {"masking.selection", "masking.span_mean"},
                {f"training.{key}" for key in ("batch_size", "steps", "warmup_steps", "learning_rate", "logging_steps",
                                               "eval_steps")}]
    assert len(different) == 1 or any(different <= group for group in together), "an arm changes one thing"
    assert all(any(key == d or d.startswith(f"{key}.") for d in declared) for key in different)


def leaves(content, path=()):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def other_than(key, value):
    if value is None:
        return {"patience": 3, "curriculum": Curriculum(share=0.5, length=0.5)}[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"not {value}"
    return value + 1


def test_fingerprint_changes_with_every_setting_the_seed_and_the_data(study):
    config = resolve(study, "dynamic")
    content = config.model_dump()
    marks = [fingerprint(config, 0, "a"), fingerprint(config, 1, "a"), fingerprint(config, 0, "b")]
    for path, value in leaves(content):
        section = getattr(config, path[0]).model_copy(update={path[1]: other_than(path[1], value)})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)    # texts that the schema would refuse
            marks.append(fingerprint(config.model_copy(update={path[0]: section}), 0, "a"))
    assert len(set(marks)) == len(marks)
    assert len(marks) > 40
    assert fingerprint(config, 0, "a") == fingerprint(resolve(study, "dynamic"), 0, "a")


KEYS = sorted(path for path, _ in leaves(yaml.safe_load((ROOT / "params.yaml").read_text()))
              if path[:2] != ("search", "space"))


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_every_missing_key_is_named(path):
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["training"]["adam_epsilon"] = 1e-6
    with pytest.raises(StudyError) as error:
        validated(StudyConfig, without_leaf(content, path), "params.yaml")
    text = str(error.value)
    assert text.startswith("params.yaml: ")
    assert "\n" not in text
    assert f"missing key {'.'.join(path)};" in text or (path[0] == "corpus" and path[-1] in text)


def without_leaf(content, path):
    head, *rest = path
    if rest:
        return content | {head: without_leaf(content[head], rest)}
    return {key: value for key, value in content.items() if key != head}


@pytest.mark.parametrize("key", ["text", "label", "name", "splits"])
def test_a_key_missing_in_a_probe_task_is_named(tmp_path, key):
    with pytest.raises(StudyError, match=f"missing key probe.tasks.0.{key};"):
        load_study(project(tmp_path, lambda content: content["probe"]["tasks"][0].pop(key)))


@pytest.mark.parametrize(("changes", "said"), [
    ({"masking": {"mlm_probabilty": 0.4}}, "unknown key masking.mlm_probabilty; did you mean mlm_probability?"),
    ({"maskin": {"mlm_probability": 0.4}}, "unknown key maskin; did you mean masking?"),
    ({"training": {"steps": {"times": "fast"}}}, "training.steps"),
    ({"training": {"learning_rate": float("inf")}}, "training.learning_rate"),
    ({"masking": {"mask": 1.0}}, "must be 1"), ({"study": "other"}, "unknown key study"),
    ({"inputs": {"format": "segment-pairs"}, "objective": {"token_objective": "causal", "sentence_objective": "nsp"}}, "needs objective.token_objective"),
    ({"training": {"curriculum": {"share": 0.5, "length": 0.3}}}, "must be 8 at least and divide")])
def test_changes_that_do_not_fit_name_the_arm_and_the_key(study, changes, said):
    arms = study.arms | {"odd": study.arms["dynamic"].model_copy(update={"changes": changes})}
    with pytest.raises(StudyError) as error:
        resolve(study.model_copy(update={"arms": arms}), "odd")
    assert "arms.yaml: odd.changes: " in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_tuned_values_lie_under_the_changes_of_an_arm(study):
    tuned = {"training.learning_rate": 0.5, "masking.mlm_probability": 0.3}
    changes = {"masking": {"mlm_probability": {"times": 2}}, "training": {"learning_rate": 0.25}}
    arms = study.arms | {"own": study.arms["dynamic"].model_copy(update={"changes": changes})}
    config = resolve(study.model_copy(update={"arms": arms}), "own", tuned)
    assert (config.masking.mlm_probability, config.training.learning_rate) == (0.6, 0.25)
    assert resolve(study, "static", tuned).training.learning_rate == 0.5


def test_an_arm_starts_from_its_baseline(study):
    sop = resolve(study, "mlm-sop")
    assert (sop.inputs.format, sop.objective.sentence_objective) == ("segment-pairs", "sop")
    fast = resolve(study, "pre-ln-no-warmup-lr-3x").training
    assert (fast.warmup_steps, fast.learning_rate) == (0, pytest.approx(3 * study.settings.training.learning_rate))


def test_baselines_that_go_round_are_named(tmp_path):
    folder = project(tmp_path, lambda content: None)
    path = tmp_path / "experiments" / "arms.yaml"
    path.write_text(path.read_text().replace("baseline: null", "baseline: static", 1))
    with pytest.raises(StudyError, match="go round in a circle"):
        load_study(folder)


@pytest.mark.parametrize("section", ["tokenizer", "examples", "corpus", "probe"])
def test_what_all_arms_share_no_arm_can_change(section, study):
    content = study.arms["static"].model_dump() | {"changes": {section: {"length": 8}}}
    with pytest.raises(StudyError, match=section):
        validated(Arm, content, "arms.yaml: static")


def test_a_pipeline_of_its_own_is_refused(tmp_path):
    mine = tmp_path / "experiments" / "mine"
    mine.mkdir(parents=True)
    params = (project(tmp_path) / "params.yaml").read_text()
    params = params.replace("root: .\n", "root: ../..\n").replace("study: quick", "study: mine")
    (mine / "params.yaml").write_text(params)
    for folder in (tmp_path, mine):
        (folder / "dvc.yaml").write_text("stages: {}\n")
    load_study(mine)
    (mine / "dvc.yaml").write_text("stages: {more: {cmd: ls}}\n")
    with pytest.raises(StudyError, match=r"mine/dvc\.yaml: is not the pipeline of the project, .*; copy that over it"):
        load_study(mine)


def test_two_studies_of_one_name_are_refused(tmp_path):
    folder = project(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(StudyError, match="there is a study quick already"):
        create_study(load_study(folder), "quick")
    made = create_study(load_study(folder), "mine")
    (made / "params.yaml").write_text((made / "params.yaml").read_text().replace("study: mine", "study: quick"))
    with pytest.raises(StudyError, match=r"study quick is that of .*params\.yaml already"):
        load_study(made)


def test_two_equal_arms_are_refused(tmp_path):
    folder = project(tmp_path, lambda content: content.update(arms=["dynamic", "all-mask", "twin"]) or
                     content["search"].update(arms=["dynamic"]))
    path = tmp_path / "experiments" / "arms.yaml"
    arms = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(arms | {"twin": arms["all-mask"]}))
    with pytest.raises(StudyError, match="arms: twin is the same as all-mask"):
        load_study(folder)


def test_what_reads_left_to_right_is_not_tuned_on_masks(tmp_path):
    with pytest.raises(StudyError, match="left-to-right reads left to right and has no NLL"):
        load_study(project(tmp_path, lambda content: content.update(arms=["dynamic", "left-to-right"]) or
                           content["search"].update(arms=["left-to-right"])))
