"""settings.yaml and fingerprints: they change with every setting, and survive renamed and added settings."""
import warnings
from pathlib import Path

import pydantic
import pytest
import yaml

from study import StudyError
from study.config import fingerprint as fingerprint_module
from study.config.arms import resolve
from study.config.fingerprint import fingerprint, kept_settings_yaml, read_settings, settings_yaml
from study.config.load import load_study
from study.config.schema import (
    Curriculum,
    Evaluation,
    FinetuneRecipe,
    FinetuneTask,
    MinimalPairs,
    Probe,
    ProbeTask,
    Recipe,
    RunConfig,
    StudyConfig,
    Text,
    Training,
)
from study.config.versions import UPGRADES, VERSION, upgraded
from study.config.yaml_files import parse_yaml
from tests.support.studies import ROOT, changed

BEFORE_VERSION_2 = {                        # a file of version 1, with each of its sections
    "study": "old", "baseline": "again", "arms": ["dynamic", "again"], "corpus": {"kind": "synthetic", "stray": 0.1},
    "examples": {"length": 32}, "masking": {"rate": 0.15, "duplicates": 1, "schedule": "static"},
    "objective": {"kind": "mlm", "pair": "none", "pair_weight": 1.0, "predicted_share": 1.0},
    "training": {"accumulation": 1, "data_share": 1.0, "schedule": "linear", "beta1": 0.9, "clip_norm": None,
                 "curriculum": {"share": 0.5, "length": 0.25}},
    "search": {"arms": ["again", "dynamic"], "space": {"training.clip_norm": {"low": 0.1, "high": 1.0, "log": True}}},
}


def write(path: Path, config: RunConfig) -> Path:
    path.write_bytes(settings_yaml(config))
    return path


def test_every_committed_settings_file_loads():
    for path in ROOT.glob("runs/*/*/settings.yaml"):
        recorded, config = parse_yaml(path.read_bytes()), read_settings(path)
        assert config.training.steps == recorded["training"]["steps"]
        if "version" not in recorded:
            assert config.masking.mlm_probability == recorded["masking"]["rate"]
            assert config.training.lr_scheduler_type == recorded["training"]["schedule"]


def test_names_of_version_1_are_upgraded():
    content = upgraded(BEFORE_VERSION_2, "params.yaml")
    assert content == {
        "name": "old", "baseline": "dynamic-reseeded", "arms": ["dynamic", "dynamic-reseeded"],
        "corpus": {"kind": "synthetic", "smoothing": 0.1},
        "examples": {"max_seq_length": 32},
        "masking": {"mlm_probability": 0.15, "dupe_factor": 1, "schedule": "static"},
        "objective": {"token_objective": "mlm", "sentence_objective": "none", "sentence_weight": 1.0,
                      "target_fraction": 1.0},
        "training": {"gradient_accumulation_steps": 1, "data_fraction": 1.0, "lr_scheduler_type": "linear",
                     "adam_beta1": 0.9, "max_grad_norm": None,
                     "curriculum": {"step_fraction": 0.5, "length_fraction": 0.25}},
        "search": {"arms": ["dynamic-reseeded", "dynamic"],
                   "space": {"training.max_grad_norm": {"low": 0.1, "high": 1.0, "log": True}}}}
    assert upgraded(content | {"version": VERSION}, "params.yaml") == content


def downgraded(content: dict) -> dict:
    """Settings of today under the names of version 1: the inverse of its upgrade."""
    from study.config.versions import _RENAMED_IN_2, _renamed

    return _renamed(content, {new: old for old, new in _RENAMED_IN_2.items()})


@pytest.mark.parametrize("name", [".", "experiments/tiny"])
def test_params_of_version_1_load(name, tmp_path):
    content = parse_yaml((ROOT / name / "params.yaml").read_text())
    assert content.pop("version") == VERSION
    old = downgraded(content) | {"root": "."}
    assert {"rate", "duplicates"} <= old["masking"].keys()
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "arms.yaml").write_text((ROOT / "experiments" / "arms.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(old))
    assert load_study(tmp_path).settings.model_dump() == load_study(ROOT / name).settings.model_dump() | {"root": "."}


@pytest.mark.parametrize("version", [0, VERSION + 1, "2", None, True])
def test_an_unknown_version_is_refused(version):
    with pytest.raises(StudyError, match=f"params.yaml: version .* is unknown; .* reads versions 1 to {VERSION}"):
        upgraded({"version": version}, "params.yaml")


def test_there_is_an_upgrade_from_every_version():
    assert sorted(UPGRADES) == list(range(1, VERSION))


def leaves(content, path=()):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def another_value(key, value):
    if value is None:
        return Curriculum(step_fraction=0.5, length_fraction=0.5) if key == "curriculum" else 3
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"not {value}"
    return value + 1


def test_fingerprint_changes_with_every_setting_the_seed_and_the_data(study, tmp_path):
    config, path = resolve(study, "dynamic"), tmp_path / "settings.yaml"
    write(path, config)
    fingerprints = [fingerprint(path, 0, "a"), fingerprint(path, 1, "a"), fingerprint(path, 0, "b")]
    for (section, *keys), value in leaves(config.model_dump(exclude={"branch"})):
        other = getattr(config, section).model_copy(update={keys[0]: another_value(keys[0], value)})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)    # values that the schema would refuse
            fingerprints.append(fingerprint(write(path, config.model_copy(update={section: other})), 0, "a"))
    assert len(set(fingerprints)) == len(fingerprints)
    assert len(fingerprints) > 40
    assert fingerprint(write(path, resolve(study, "dynamic")), 0, "a") == fingerprints[0]


def test_settings_yaml_is_read_back_as_it_was_written(study, tmp_path):
    for arm in ("dynamic", "short-first-half", "untrained"):
        config = resolve(study, arm)
        assert read_settings(write(tmp_path / "settings.yaml", config)) == config
        assert parse_yaml((tmp_path / "settings.yaml").read_bytes())["version"] == VERSION


def test_fingerprint_does_not_depend_on_the_version_line_or_the_order(study, tmp_path):
    path = write(tmp_path / "settings.yaml", resolve(study, "dynamic"))
    before = fingerprint(path, 0, "a")
    content = parse_yaml(path.read_bytes())
    path.write_text(yaml.safe_dump(dict(reversed(content.items())) | {"version": VERSION + 1}, sort_keys=False))
    assert fingerprint(path, 0, "a") == before


@pytest.fixture
def extended(monkeypatch):
    """The schema with one more setting in `training`, with a default: the class of a run's settings."""
    extended_training = pydantic.create_model("Training", __base__=Training, lookahead=(int, 0))
    model = pydantic.create_model("RunConfig", __base__=RunConfig, training=(extended_training, ...))
    monkeypatch.setattr(fingerprint_module, "RunConfig", model)
    return model


def test_an_added_setting_leaves_fingerprints_and_files_as_they_were(study, tmp_path, extended):
    config = resolve(study, "dynamic")
    before = write(tmp_path / "before.yaml", config)
    with_new_setting = read_settings(before)
    assert type(with_new_setting) is extended
    assert with_new_setting.training.lookahead == 0
    after = write(tmp_path / "after.yaml", with_new_setting)
    assert after.read_bytes() == before.read_bytes()
    assert fingerprint(after, 0, "a") == fingerprint(before, 0, "a")
    changed_setting = changed(with_new_setting, training={"lookahead": 5})
    assert b"lookahead: 5" in settings_yaml(changed_setting)
    assert fingerprint(write(after, changed_setting), 0, "a") != fingerprint(before, 0, "a")


def test_a_study_may_omit_an_added_setting(extended):
    training = extended.model_fields["training"].annotation
    model = pydantic.create_model("StudyConfig", __base__=StudyConfig, training=(training, ...))
    content = upgraded(parse_yaml((ROOT / "params.yaml").read_text()), "params.yaml")
    assert model.model_validate(content).training.lookahead == 0


def test_only_settings_that_were_added_later_have_a_default():
    """Settings that existed in version 2 are required. List a setting here when you add it."""
    added = {"training.initialization_seed", "training.order_seed", "training.mask_seed",
             "model.positions", "model.position_initialization", "training.position_learning_rate",
             "training.optimizer", "training.stop_after_escape", "training.attention_offsets",
             "inputs.repeated_fraction", "masking.random_from", "masking.unknown", "model.hidden_act",
             "model.layer_norm_eps", "model.embedding_dropout", "training.local_attention_from",
             "training.count_embeddings_at", "training.warmup_from_zero", "training.decay_biases_and_norms",
             "training.skip_padding",
             "examples.remasked", "masking.draws", "model.embedding_scale", "inputs.prepared",
             "tokenizer.strip_accents", "tokenizer.word_splitting", "tokenizer.max_word_characters",
             "examples.windows"}
    config = load_study(ROOT / "experiments" / "tiny").settings
    assert [name for name, field in RunConfig.model_fields.items() if not field.is_required()] == ["branch"]
    sections = {name: getattr(config, name) for name in Recipe.model_fields}
    assert {f"{name}.{key}" for name, section in sections.items() for key, field in type(section).model_fields.items()
            if not field.is_required()} == added
    assert [name for model in (Probe, ProbeTask) for name, field in model.model_fields.items()
            if not field.is_required()] == ["plane_rows", "projections", "format", "label_values", "ignored_labels",
                                            "draws", "take"]
    assert [name for name, field in StudyConfig.model_fields.items() if not field.is_required()] == ["finetune"]
    assert [name for model in (FinetuneRecipe, FinetuneTask) for name, field in model.model_fields.items()
            if not field.is_required()] == ["format", "label_values", "ignored_labels", "draws", "take", "text_pair"]
    assert [f"{model.__name__}.{name}" for model in (Text, Evaluation) for name, field in model.model_fields.items()
            if not field.is_required()] == [
        "Text.format", "Text.headings", "Text.min_characters", "Text.sentences", "Evaluation.token_identity",
        "Evaluation.minimal_pairs", "Evaluation.sentences", "Evaluation.senses"]
    assert all(field.is_required() for field in MinimalPairs.model_fields.values())


def test_renamed_settings_keep_the_file_of_a_trained_cell(study, tmp_path):
    """Bytes that say the same under older names are kept, so a rename makes no cell stale."""
    study = study.model_copy(update={"folder": tmp_path, "settings": study.settings.model_copy(update={"root": "."})})
    config = resolve(study, "dynamic")
    assert kept_settings_yaml(study, "dynamic", config) == settings_yaml(config)
    path = study.cell("dynamic", 0) / "settings.yaml"
    path.parent.mkdir(parents=True)
    old = yaml.safe_dump(downgraded(config.model_dump(mode="json")), sort_keys=False).encode()
    path.write_bytes(old)
    assert kept_settings_yaml(study, "dynamic", config) == old
    other = changed(config, training={"steps": 99})
    assert kept_settings_yaml(study, "dynamic", other) == settings_yaml(other)
    path.write_bytes(b"training: [")
    assert kept_settings_yaml(study, "dynamic", config) == settings_yaml(config)
