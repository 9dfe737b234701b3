"""Arms that start from another arm: their settings before and after the branch, their identity, and what is refused."""
import pytest

from study import StudyError
from study.config.arms import FIXED, arm_identity, branch_of, load_arms, resolve, resolve_with
from study.config.fingerprint import fingerprint, flat, read_settings, recorded, settings_yaml
from study.config.load import load_study
from study.config.schema import Arm, Model
from study.config.versions import UPGRADES, upgraded
from study.config.yaml_files import parse_yaml
from tests.support.quick_yaml import dump_yaml, load_yaml
from tests.support.studies import ROOT

ALL_MASK = {"masking": {"mask": 1.0, "random": 0.0, "keep": 0.0}}


def arm(changes: dict, start: dict | None = None, baseline: str | None = "dynamic") -> dict:
    """An arm as it is written in arms.yaml. start: its `from`."""
    content = {"description": "An arm.", "factor": "corruption", "baseline": baseline, "source": "this study",
               "source_reports": "No number.", "changes": changes}
    return content if start is None else content | {"from": start}


def with_arms(study, **arms: dict):
    """The study with more arms, written as in arms.yaml. Underscores in names stand for hyphens."""
    new = {name.replace("_", "-"): Arm.model_validate(content) for name, content in arms.items()}
    return study.model_copy(update={"arms": study.arms | new})


@pytest.fixture
def branched(study):
    """The tiny study, which has 12 steps, with an arm that starts from `dynamic` at step 6."""
    return with_arms(study, late=arm(ALL_MASK, {"arm": "dynamic", "step": 6}))


def test_a_branched_arm_has_the_settings_of_both_arms(branched):
    config = resolve(branched, "late")
    assert config.branch.step == 6
    assert config.branch.before == resolve(branched, "dynamic")
    assert config.model_copy(update={"branch": None}) == resolve(branched, "all-mask")


def test_the_recorded_settings_have_both_and_those_of_other_arms_have_neither(branched, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_bytes(settings_yaml(resolve(branched, "late")))
    assert read_settings(path) == resolve(branched, "late")
    content = parse_yaml(path.read_bytes())
    assert content["branch"]["before"]["masking"]["mask"] == 0.8
    assert content["masking"]["mask"] == 1.0
    assert "branch" not in recorded(resolve(branched, "dynamic"))


def test_the_fingerprint_follows_the_step_and_the_settings_on_both_sides(study, tmp_path):
    starts = {"late": ("dynamic", 6, ALL_MASK), "later": ("dynamic", 7, ALL_MASK), "other": ("static", 6, ALL_MASK),
              "half": ("dynamic", 6, {"masking": {"mask": 0.5, "random": 0.0, "keep": 0.5}})}
    study = with_arms(study, **{name: arm(changes, {"arm": start, "step": step})
                                for name, (start, step, changes) in starts.items()})
    fingerprints = set()
    for name in (*starts, "all-mask", "dynamic"):
        (tmp_path / "settings.yaml").write_bytes(settings_yaml(resolve(study, name)))
        fingerprints.add(fingerprint(tmp_path / "settings.yaml", 0, "data"))
    assert len(fingerprints) == len(starts) + 2


def test_an_arm_inherits_the_start_of_its_baseline_and_can_have_another(branched):
    study = with_arms(branched, faster=arm({"training": {"learning_rate": {"times": 2}}}, baseline="late"),
                      later=arm({"masking": {"schedule": "static"}}, {"arm": "dynamic", "step": 8}, baseline="late"))
    late, faster, later = (resolve(study, name) for name in ("late", "faster", "later"))
    assert faster.branch == late.branch
    assert faster.training.learning_rate == 2 * late.training.learning_rate
    assert later.branch.step == 8
    assert later.masking.mask == 1.0
    assert branch_of(study.arms, "dynamic", study.arms_path) is None


def test_the_identity_of_a_branched_arm_is_also_that_of_the_arm_that_it_starts_from(branched):
    identity = arm_identity(branched, "late")
    assert [entry["arm"] for entry in identity[:-1]] == ["dynamic", "late"]
    assert identity[-1] == {"from": arm_identity(branched, "dynamic"), "step": 6}
    changed = branched.arms["dynamic"].model_copy(update={"changes": {"masking": {"schedule": "static"}}})
    assert arm_identity(branched.model_copy(update={"arms": branched.arms | {"dynamic": changed}}), "late") != identity
    assert all("from" not in entry for entry in arm_identity(branched, "all-mask"))


def test_each_side_has_its_own_tuned_values(branched):
    rates = {"late": {"training.learning_rate": 0.5}, "dynamic": {"training.learning_rate": 0.25}}
    config = resolve_with(branched, "late", rates)
    assert (config.training.learning_rate, config.branch.before.training.learning_rate) == (0.5, 0.25)
    assert resolve_with(branched, "dynamic", rates).training.learning_rate == 0.25
    untuned = resolve_with(branched, "late", {})
    assert untuned.training.learning_rate == untuned.branch.before.training.learning_rate


def write_arms(folder, **arms: dict):
    """arms.yaml of the project with more arms."""
    path = folder / "arms.yaml"
    path.write_text((ROOT / "experiments/arms.yaml").read_text() + dump_yaml(arms))
    return path


START = {"arm": "dynamic", "step": 6}
REFUSED = {
    "unknown arm": (arm(ALL_MASK, {"arm": "dynamik", "step": 6}), "odd.from: unknown arm 'dynamik'; "
                    "did you mean dynamic?"),
    "branched arm": (arm(ALL_MASK, {"arm": "all-mask-from-1000", "step": 6}),
                     "odd.from: all-mask-from-1000 starts from another arm itself"),
    "itself": (arm(ALL_MASK, {"arm": "odd", "step": 6}), "odd.from: odd starts from another arm itself"),
    "step 0": (arm(ALL_MASK, {"arm": "dynamic", "step": 0}), "odd: from.step"),
    "unknown key": (arm(ALL_MASK, START | {"stepp": 6}), "odd: unknown key from.stepp; did you mean from.step?"),
    "no step": (arm(ALL_MASK, {"arm": "dynamic"}), "odd: missing key from.step"),
    "an ancestor's setting": (arm(ALL_MASK, START, baseline="pre-ln"), "odd: model.norm cannot change at a branch"),
    "scaled": (arm({"training": {"batch_size": {"times": 2}}}, START), "odd: training.batch_size cannot change"),
    "of the other arm": (arm(ALL_MASK, {"arm": "pre-ln", "step": 6}), "odd: model.norm cannot change at a branch; give "
                         "it the value that pre-ln has"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_arm_that_cannot_start_from_another_is_refused(tmp_path, name):
    content, message = REFUSED[name]
    with pytest.raises(StudyError) as error:
        load_arms(write_arms(tmp_path, odd=content))
    assert f"arms.yaml: {message}" in str(error.value)
    assert "\n" not in str(error.value)


FIXED_KEYS = [(section, key) for section, keys in FIXED.items() for key in keys]


@pytest.mark.parametrize(("section", "key"), FIXED_KEYS)
def test_settings_on_which_the_state_depends_cannot_change(tmp_path, section, key):
    with pytest.raises(StudyError, match=rf"odd: {section}\.{key} cannot change at a branch"):
        load_arms(write_arms(tmp_path, odd=arm({section: {key: 1}}, START)))
    assert "odd" in load_arms(write_arms(tmp_path, odd=arm({section: {key: 1}})))


def test_every_setting_of_the_model_but_dropout_is_fixed():
    assert {key for section, key in FIXED_KEYS if section == "model"} == Model.model_fields.keys() - {"dropout"}


def test_a_fixed_setting_may_differ_from_the_study_s_if_both_arms_have_it(tmp_path):
    faster = arm({"training": {"learning_rate": {"times": 2}}}, {"arm": "four-times-batch", "step": 6},
                 baseline="four-times-batch")
    assert load_arms(write_arms(tmp_path, faster=faster))["faster"].branch.arm == "four-times-batch"


@pytest.mark.parametrize(("content", "message"), [
    (arm(ALL_MASK, {"arm": "dynamic", "step": 12}), "step 12: must come before the end of training, but dynamic has "
     "12 steps"),
    (arm(ALL_MASK, {"arm": "untrained", "step": 1}), "step 1: must come before the end of training, but untrained has "
     "0 steps"),
    (arm(ALL_MASK | {"training": {"steps": 5}}, START), "step 6: must come before the end of training, but odd has 5"),
    (arm({"masking": {"mask": 0.8}}, START), "step 6: nothing changes here, so the arm is dynamic"),
    (arm({"training": {"count_embeddings_at": 5}}, START), "step 6: training.count_embeddings_at 5 is earlier"),
    (arm({"training": {"curriculum": {"step_fraction": 0.5, "length_fraction": 0.5, "keep": "rows"}}},
         {"arm": "short-first-half", "step": 6}), "step 6: training.curriculum.keep cannot change here")])
def test_a_branch_that_does_not_fit_the_study_is_refused(study, content, message):
    with pytest.raises(StudyError) as error:
        resolve(with_arms(study, odd=content), "odd")
    assert f"arms.yaml: odd.from: {message}" in str(error.value)


def test_a_branched_arm_cannot_be_tuned(study, tmp_path):
    (tmp_path / "experiments").mkdir()
    write_arms(tmp_path / "experiments", late=arm(ALL_MASK, START))
    params = load_yaml((ROOT / "experiments/tiny/params.yaml").read_text())
    params |= {"root": ".", "arms": ["dynamic", "late"]}
    params["training"]["adam_epsilon"] = 1e-6           # yaml.safe_load reads 1e-6 as text
    (tmp_path / "params.yaml").write_text(dump_yaml(params))
    assert load_study(tmp_path).settings.arms == ["dynamic", "late"]
    params["search"]["arms"] = ["late"]
    (tmp_path / "params.yaml").write_text(dump_yaml(params))
    with pytest.raises(StudyError, match=r"search\.arms: late starts from dynamic, .* tune dynamic instead"):
        load_study(tmp_path)


def test_a_study_cannot_have_a_branch_of_its_own(tmp_path):
    (tmp_path / "experiments").mkdir()
    write_arms(tmp_path / "experiments")
    text = (ROOT / "params.yaml").read_text() + "branch: null\n"
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(StudyError, match="unknown key branch"):
        load_study(tmp_path)


def test_older_names_are_upgraded_on_both_sides(monkeypatch):
    monkeypatch.setitem(UPGRADES, 1, lambda content: {f"new-{key}" if key == "old" else key: value
                                                      for key, value in content.items()})
    content = {"version": 1, "old": 1, "branch": {"step": 6, "before": {"old": 2}}}
    assert upgraded(content, "settings.yaml") == {"new-old": 1, "branch": {"step": 6, "before": {"new-old": 2}}}
    assert content["branch"]["before"] == {"old": 2}


def test_the_arms_of_the_project_start_from_the_baseline(study):
    started = {name: content.branch for name, content in study.arms.items() if content.branch}
    assert {"all-mask-from-1000", "mix-80-20-0-from-1000"} <= started.keys()
    wikitext = load_study(ROOT / "experiments" / "wikitext2")
    for name, branch in started.items():
        config = resolve(wikitext, name)
        assert (branch.arm, branch.step) == ("dynamic", config.branch.step) == ("dynamic", 1000)
        changes = dict(flat(study.arms[name.removesuffix("-from-1000")].changes))
        assert dict(flat(study.arms[name].changes)) == changes
