"""Settings: complete, strict, and an error that names the file, the key and the remedy."""
import numpy as np
import pytest
import yaml
from scipy import stats

from study import StudyError, randomness
from study.config import fingerprint, load_study, resolve
from tests.conftest import ROOT

FAULTS = [
    ("training", {"learning_rat": 1}, "did you mean learning_rate"), ("model", {"hiden_size": 1}, "hidden_size"),
    ("training", {"learning_rate": None}, "training.learning_rate"), ("training", {"learning_rate": "fast"}, "found"),
    ("model", {"num_attention_heads": 5}, "multiple of num_attention_heads"), ("masking", {"rate": 0}, "masking.rate"),
    ("masking", {"rate": 1.5}, "masking.rate"), ("masking", {"mask": 0.9}, "must be 1"),
    ("training", {"warmup_steps": 99999}, "more than steps"), ("training", {"batch_size": 0}, "batch_size"),
    ("training", {"accumulation": 3}, "multiple of accumulation"), ("model", {"dropout": 1.0}, "dropout"),
    ("masking", {"selection": "words"}, "selection"), ("inputs", {"format": "rows"}, "format"),
    ("examples", {"length": 2}, "length"), ("search", {"seed": 0}, "one of the reported seeds"),
    ("search", {"arms": ["nobody"]}, "not among the study's arms"),
    ("search", {"space": {"training.speed": {"low": 1, "high": 2, "log": False}}}, "is no setting"),
    ("objective", {"pair": "nsp"}, "needs inputs.format"), ("corpus", {"kind": "poems"}, "corpus"),
    ("model", {"hidden_size": True}, "hidden_size"), ("training", {"steps": 1.5}, "steps"),
]


def project(tmp_path, change=None):
    """A project of settings alone; `change` edits the parameters."""
    (tmp_path / "experiments").mkdir(exist_ok=True)
    (tmp_path / "experiments" / "arms.yaml").write_text((ROOT / "experiments/arms.yaml").read_text())
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["training"]["epsilon"] = 1e-6
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
    with pytest.raises(StudyError, match="missing key masking.rate"):
        load_study(project(tmp_path, lambda content: content["masking"].pop("rate")))
    folder = project(tmp_path)
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text + "seeds: [5]\n")
    with pytest.raises(StudyError, match="'seeds' stands twice"):
        load_study(folder)
    with pytest.raises(StudyError, match="no such file"):
        load_study(tmp_path / "nowhere")


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
        assert arm.changes == {}
        return
    own, other = (dict(flat(resolve(study, n).model_dump())) for n in (name, arm.baseline))
    declared = dict(flat(arm.changes)).keys() | dict(flat(study.arms[arm.baseline].changes)).keys()
    different = {key for key in own if own[key] != other[key]}
    assert different
    assert all(any(key == d or d.startswith(f"{key}.") for d in declared) for key in different)


def test_fingerprint_names_settings_seed_and_data(study):
    cell = resolve(study, "dynamic")
    marks = {fingerprint(cell, 0, "a"), fingerprint(cell, 1, "a"), fingerprint(cell, 0, "b"),
             fingerprint(resolve(study, "static"), 0, "a")}
    assert len(marks) == 4
    assert fingerprint(cell, 0, "a") == fingerprint(resolve(study, "dynamic"), 0, "a")


def test_uniforms_are_uniform_pure_and_independent():
    first = randomness.uniforms(0, 1, 2, np.arange(20_000))
    assert stats.kstest(first, "uniform").pvalue > 1e-3
    assert (first[50:60] == randomness.uniforms(0, 1, 2, np.arange(50, 60))).all()
    for other in (randomness.uniforms(1, 1, 2, np.arange(20_000)), randomness.uniforms(0, 2, 2, np.arange(20_000)),
                  randomness.uniforms(0, 1, 3, np.arange(20_000)), np.roll(first, 1)):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.03
    assert sorted(randomness.permutation(0, 3, 50, 1).tolist()) == list(range(50))
