"""Arms: an arm is its baseline with its changes, and invalid changes name the arm and the key."""
import pytest

from study import StudyError
from study.config.arms import arm_identity, load_arms, resolve
from study.config.fingerprint import flat
from study.config.load import load_study
from study.config.schema import Arm
from study.config.yaml_files import validated
from tests.support.quick_yaml import load_yaml
from tests.support.studies import ROOT, changed

# Settings that only make sense together: an arm may change one group.
GROUPS = [{"masking.mask", "masking.random", "masking.keep"}, {"masking.schedule", "masking.dupe_factor"},
          {"training.steps", "training.warmup_steps"}, {"model.hidden_size", "model.intermediate_size"},
          {"training.curriculum.step_fraction", "training.curriculum.length_fraction", "training.curriculum"},
          {"masking.selection", "masking.span_mean"}, {"model.positions", "model.position_initialization"},
          {"model.positions", "training.position_learning_rate"},
          {"model.initialization", "model.layer_norm_eps"},
          {"training.initialization_seed", "training.order_seed", "training.mask_seed"},
          {f"training.{key}" for key in ("batch_size", "steps", "warmup_steps", "learning_rate", "logging_steps",
                                         "eval_steps")}]


def with_arm(study, name: str, changes: dict):
    """The study with one more arm, whose baseline is the study's."""
    arm = study.arms["dynamic"].model_copy(update={"changes": changes})
    return study.model_copy(update={"arms": study.arms | {name: arm}})


@pytest.mark.parametrize("name", list(load_yaml((ROOT / "experiments/arms.yaml").read_text())))
def test_an_arm_differs_from_its_baseline_in_what_it_declares(study, name):
    arm = study.arms[name]
    if arm.baseline is None:
        assert name == "dynamic" or arm.factor == "recipe"
        return
    if name == "rotary-positions":          # the quick study's own positions; for studies with other ones
        study = load_study(ROOT / "experiments" / "plateau")
    if "unscaled" in name:                  # the quick study's own embeddings
        study = load_study(ROOT / "experiments" / "characters")
    if arm.branch is not None:              # the tiny study ends before the branch
        study = study.model_copy(update={"settings": changed(study.settings, training={"steps": 2000})})
    settings, baseline = (dict(flat(resolve(study, n).model_dump(exclude={"branch"}, exclude_defaults=True)))
                          for n in (name, arm.baseline))
    declared = dict(flat(arm.changes)).keys()
    different = {key for key in settings | baseline if settings.get(key) != baseline.get(key)}
    assert different
    assert len(different) == 1 or any(different <= group for group in GROUPS), "an arm changes one thing"
    assert all(any(key == d or d.startswith(f"{key}.") for d in declared) for key in different)


def test_times_scales_a_number(study):
    base = resolve(study, "dynamic").training
    fast = with_arm(study, "fast", {"training": {"learning_rate": {"times": 3}, "steps": {"times": 0.5}}})
    scaled = resolve(fast, "fast").training
    assert scaled.learning_rate == pytest.approx(3 * base.learning_rate)
    assert scaled.steps == base.steps // 2


def test_an_arm_inherits_the_changes_of_its_baseline(study):
    sop = resolve(study, "mlm-sop")
    assert (sop.inputs.format, sop.objective.sentence_objective) == ("segment-pairs", "sop")
    fast = resolve(study, "pre-ln-no-warmup-lr-3x").training
    assert (fast.warmup_steps, fast.learning_rate) == (0, pytest.approx(3 * study.settings.training.learning_rate))


def test_changes_of_an_arm_override_tuned_values(study):
    tuned = {"training.learning_rate": 0.5, "masking.mlm_probability": 0.3}
    changes = {"masking": {"mlm_probability": {"times": 2}}, "training": {"learning_rate": 0.25}}
    config = resolve(with_arm(study, "own", changes), "own", tuned)
    assert (config.masking.mlm_probability, config.training.learning_rate) == (0.6, 0.25)
    assert resolve(study, "static", tuned).training.learning_rate == 0.5


@pytest.mark.parametrize(("changes", "message"), [
    ({"masking": {"mlm_probabilty": 0.4}}, "unknown key masking.mlm_probabilty; did you mean masking.mlm_probability?"),
    ({"maskin": {"mlm_probability": 0.4}}, "unknown key maskin; did you mean masking?"),
    ({"training": {"steps": {"times": "fast"}}}, "training.steps"),
    ({"training": {"learning_rate": float("inf")}}, "training.learning_rate"),
    ({"masking": {"mask": 1.0}}, "must be 1"), ({"name": "other"}, "unknown key name"),
    ({"inputs": {"format": "segment-pairs"},
      "objective": {"token_objective": "causal", "sentence_objective": "nsp"}}, "needs objective.token_objective"),
    ({"inputs": {"format": "paragraph-pairs"}, "objective": {"sentence_objective": "sop"}},
     "paragraph-pairs draws its negatives from the whole text"),
    ({"training": {"patience": 3}, "objective": {"token_objective": "causal"}}, "training.patience watches the NLL"),
    ({"training": {"curriculum": {"step_fraction": 0.5, "length_fraction": 0.3}}},
     "must divide examples.max_seq_length")])
def test_invalid_changes_name_the_arm_and_the_key(study, changes, message):
    with pytest.raises(StudyError) as error:
        resolve(with_arm(study, "odd", changes), "odd")
    assert "arms.yaml: odd.changes: " in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cycle_of_baselines_is_named(tmp_path):
    path = tmp_path / "arms.yaml"
    path.write_text((ROOT / "experiments/arms.yaml").read_text().replace("baseline: null", "baseline: static", 1))
    with pytest.raises(StudyError, match=r"baselines form a cycle \(.*static <- dynamic"):
        load_arms(path)


@pytest.mark.parametrize("section", ["tokenizer", "examples", "corpus", "probe"])
def test_an_arm_cannot_change_what_all_arms_share(section, study):
    content = study.arms["static"].model_dump(by_alias=True) | {"changes": {section: {"length": 8}}}
    with pytest.raises(StudyError, match=section):
        validated(Arm, content, "arms.yaml: static")


def test_the_identity_of_an_arm_is_its_changes_and_those_of_its_ancestors(study):
    identity = arm_identity(study, "mlm-nsp")
    assert [entry["arm"] for entry in identity] == ["dynamic", "mlm-pairs", "mlm-nsp"]
    assert identity[-1]["changes"] == {"objective": {"sentence_objective": "nsp"}}

    def identity_with(name, **values):
        arms = study.arms | {name: study.arms[name].model_copy(update=values)}
        return arm_identity(study.model_copy(update={"arms": arms}), "mlm-nsp")

    for text in ("description", "factor", "source", "source_reports"):
        assert identity_with("mlm-nsp", **{text: "Reworded."}) == identity
    assert identity_with("mlm-nsp", changes={"objective": {"sentence_objective": "sop"}}) != identity
    assert identity_with("mlm-pairs", changes={}) != identity
    assert identity_with("mlm-nsp", baseline="dynamic") != identity
