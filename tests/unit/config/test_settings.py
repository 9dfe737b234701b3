"""Loading a study: settings are complete and strict, and an error names the file, the key and the remedy."""
import pydantic
import pytest

from study import StudyError
from study.config import schema
from study.config.create import create_study
from study.config.load import load_study
from study.config.schema import Settings, StudyConfig
from study.config.yaml_files import validated
from tests.support.quick_yaml import dump_yaml, load_yaml
from tests.support.studies import ROOT

INVALID = [
    ("training", {"learning_rat": 1}, "did you mean training.learning_rate?"),
    ("model", {"hiden_size": 1}, "did you mean model.hidden_size?"),
    ("training", {"learning_rate": None}, "training.learning_rate"), ("training", {"learning_rate": "fast"}, "found"),
    ("model", {"num_attention_heads": 5}, "multiple of num_attention_heads"),
    ("masking", {"mlm_probability": 0}, "masking.mlm_probability"),
    ("masking", {"mlm_probability": 1.5}, "masking.mlm_probability"), ("masking", {"mask": 0.9}, "must be 1"),
    ("training", {"lr_scheduler_type": "inverse-sqrt", "warmup_steps": 0}, "needs warmup_steps above 0"),
    ("training", {"warmup_steps": 99999}, "more than steps"), ("training", {"batch_size": 0}, "batch_size"),
    ("training", {"gradient_accumulation_steps": 3}, "multiple of gradient_accumulation_steps"),
    ("model", {"dropout": 1.0}, "dropout"), ("masking", {"selection": "words"}, "selection"),
    ("inputs", {"format": "rows"}, "format"), ("examples", {"max_seq_length": 2}, "examples.max_seq_length"),
    ("search", {"seed": load_study(ROOT).settings.seeds[0]}, "one of the reported seeds"),
    ("search", {"arms": ["nobody"]}, "not among the study's arms"),
    ("search", {"space": {"training.speed": {"low": 1, "high": 2, "log": False}}}, "is not a setting"),
    ("search", {"space": {"training.warmup_steps": {"low": 1, "high": 2, "log": False}}}, "is not a float"),
    ("search", {"space": {"training.learning_rate": {"low": 2, "high": 1, "log": False}}}, "low 2 must be less than"),
    ("search", {"space": {"training.learning_rate": {"low": 0, "high": 1, "log": True}}}, "greater than 0"),
    ("probe", {"train_sizes": [2]}, "fewer than the"), ("corpus", {"kind": "poems"}, "corpus"),
    ("objective", {"sentence_objective": "nsp"}, "needs inputs.format"),
    ("model", {"hidden_size": True}, "hidden_size"), ("model", {"hidden_act": "swish"}, "model.hidden_act"),
    ("model", {"layer_norm_eps": 0.0}, "model.layer_norm_eps"), ("masking", {"unknown": "often"}, "masking.unknown"),
    ("training", {"steps": 1.5}, "steps"),
    ("model", {"learning_rate": 1}, "unknown key model.learning_rate; did you mean training.learning_rate?"),
    ("model", {"train_rows": 1}, "unknown key model.train_rows; did you mean probe.tasks.train_rows?"),
    ("corpus", {"column": "text"}, "unknown key corpus.column; remove it"),
    ("search", {"space": {"training.learning_rate": {"low": 1, "higher": 2, "log": False}}},
     "space.training.learning_rate.higher; did you mean search.space.training.learning_rate.high?"),
    ("corpus", {"documents": {"trian": 1}}, "corpus.documents.trian: Input should be 'train'"),
    ("corpus", {"mixture": [0, 0, 0]}, "corpus.mixture: at least one weight must be greater than 0"),
    ("corpus", {"probe_sentences": [3, 1]}, "corpus.probe_sentences: the smallest number comes first; write [1, 3]"),
    ("corpus", {"seed": -1}, "corpus.seed"), ("examples", {"seed": -1}, "examples.seed"),
    ("search", {"seed": -1}, "search.seed"),
    ("search", {"space": {"model.dropout": {"low": 0.1, "high": 1.5, "log": False}}},
     "model.dropout: high 1.5 is not a value of this setting: Input should be less than 1"),
    ("search", {"space": {"training.weight_decay": {"low": -1, "high": 1, "log": False}}}, "weight_decay: low -1"),
    ("search", {"space": {"training.max_grad_norm": {"low": 0, "high": 1, "log": False}}}, "max_grad_norm: low 0"),
    ("search", {"space": {"masking.mask": {"low": 0.8, "high": 0.9, "log": False}}},
     "masking.mask: high 0.9 is not a value of this setting: mask + random + keep must be 1"),
    ("search", {"seed": 617}, "search.seed 617 is one of the reported seeds, that of dynamic-reseeded-117"),
]


@pytest.fixture
def project(tmp_path):
    """Writes the settings of the quick study to a folder and returns it. The function given changes the content."""
    def write(change=lambda content: None):
        (tmp_path / "experiments").mkdir(exist_ok=True)
        (tmp_path / "experiments" / "arms.yaml").write_text((ROOT / "experiments/arms.yaml").read_text())
        content = quick_study()
        change(content)
        (tmp_path / "params.yaml").write_text(dump_yaml(content))
        return tmp_path
    return write


def quick_study() -> dict:
    content = load_yaml((ROOT / "params.yaml").read_text())
    content["training"]["adam_epsilon"] = 1e-6      # yaml.safe_load reads 1e-6 as text
    return content


@pytest.mark.parametrize(("section", "values", "message"), INVALID)
def test_an_invalid_setting_is_one_line_with_file_key_and_remedy(project, section, values, message):
    with pytest.raises(StudyError) as error:
        load_study(project(lambda content: content[section].update(values)))
    assert "params.yaml" in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert "(found {" not in str(error.value)


@pytest.mark.parametrize("key", ["training.max_grad_norm", "model.layer_norm_eps", "masking.mlm_probability"])
def test_every_setting_with_a_decimal_value_can_be_searched(project, key):
    searched = {key: {"low": 1e-9, "high": 0.5, "log": True}}
    assert load_study(project(lambda content: content["search"].update(space=searched))).settings.search.space[key].log


def test_missing_and_repeated_keys(project, tmp_path):
    with pytest.raises(StudyError, match="missing key masking.mlm_probability"):
        load_study(project(lambda content: content["masking"].pop("mlm_probability")))
    folder = project()
    (folder / "params.yaml").write_text((folder / "params.yaml").read_text() + "seeds: [5]\n")
    with pytest.raises(StudyError, match="repeated key 'seeds'"):
        load_study(folder)
    with pytest.raises(StudyError, match="no such file"):
        load_study(tmp_path / "nowhere")


def test_a_misspelt_key_is_reported_before_the_missing_one(project):
    def misspell(content):
        content["training"]["learning_rte"] = content["training"].pop("learning_rate")

    with pytest.raises(StudyError, match=r"unknown key training\.learning_rte; did you mean training\.learning_rate\?"):
        load_study(project(misspell))
    with pytest.raises(StudyError, match=r"unknown key model\.depht; remove it"):
        load_study(project(lambda content: content["model"].update(depht=3)))


def leaves(content, path=()):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


# in params.yaml; they have a default
ADDED_LATER = {("model", "positions"), ("finetune", "arms"), ("finetune", "tasks")}
KEYS = sorted(path for path in leaves(load_yaml((ROOT / "params.yaml").read_text()))
              if path[:2] != ("search", "space") and path != ("version",) and path not in ADDED_LATER)


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_every_missing_key_is_named(path):
    content = {key: value for key, value in quick_study().items() if key != "version"}
    with pytest.raises(StudyError) as error:
        validated(StudyConfig, without_leaf(content, path), "params.yaml")
    message = str(error.value)
    assert message.startswith("params.yaml: ")
    assert "\n" not in message
    assert f"missing key {'.'.join(path)};" in message or (path[0] == "corpus" and path[-1] in message)


def without_leaf(content, path):
    head, *rest = path
    if rest:
        return content | {head: without_leaf(content[head], rest)}
    return {key: value for key, value in content.items() if key != head}


def test_a_key_misspelt_in_a_probe_task_is_named_with_its_place(project):
    with pytest.raises(StudyError, match=r"key probe\.tasks\.0\.lable; did you mean probe\.tasks\.0\.label\?"):
        load_study(project(lambda content: content["probe"]["tasks"][0].update(lable="topic")))


def test_every_member_of_a_union_is_named_in_one_message(project):
    with pytest.raises(StudyError) as error:
        load_study(project(lambda content: content["probe"]["tasks"][0].update(label_values=[1.5])))
    assert str(error.value).endswith("probe.tasks.0.label_values.0: Input should be a valid integer or a valid string "
                                     "or a valid boolean (found 1.5)")


@pytest.mark.parametrize("key", ["text", "label", "name", "splits"])
def test_a_key_missing_in_a_probe_task_is_named(project, key):
    with pytest.raises(StudyError, match=f"missing key probe.tasks.0.{key};"):
        load_study(project(lambda content: content["probe"]["tasks"][0].pop(key)))


def test_an_unknown_arm_names_the_nearest(project):
    with pytest.raises(StudyError, match="did you mean dynamic"):
        load_study(project(lambda content: content.update(arms=["dynamic", "dynamc"])))


def test_an_unknown_cell_names_the_nearest(study):
    assert study.parse_cell_name("mlm-nsp-0") == ("mlm-nsp", 0)
    with pytest.raises(StudyError, match=r"no cell mlm-nps-0; did you mean mlm-nsp-0\?"):
        study.parse_cell_name("mlm-nps-0")


def test_paths_of_a_study_are_normalised(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert str(load_study("experiments/tiny").reports) == "experiments/tiny/reports/tiny"
    monkeypatch.chdir(ROOT / "experiments/tiny")
    assert str(load_study().reports) == "reports/tiny"


def test_a_pipeline_that_differs_from_the_project_s_is_refused(project, tmp_path):
    mine = tmp_path / "experiments" / "mine"
    mine.mkdir(parents=True)
    params = (project() / "params.yaml").read_text()
    (mine / "params.yaml").write_text(params.replace("root: .\n", "root: ../..\n").replace("name: quick", "name: mine"))
    for folder in (tmp_path, mine):
        (folder / "dvc.yaml").write_text("stages: {}\n")
    load_study(mine)
    (mine / "dvc.yaml").write_text("stages: {more: {cmd: ls}}\n")
    with pytest.raises(StudyError, match=r"mine/dvc\.yaml: differs from the project's pipeline .*; replace it"):
        load_study(mine)


def test_two_studies_of_one_name_are_refused(project, tmp_path):
    folder = project()
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(StudyError, match="study quick already exists"):
        create_study(load_study(folder), "quick")
    new = create_study(load_study(folder), "mine")
    (new / "params.yaml").write_text((new / "params.yaml").read_text().replace("name: mine", "name: quick"))
    with pytest.raises(StudyError, match=r"the name quick is taken by .*params\.yaml"):
        load_study(new)


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_quoted_name_is_taken_as_well(project, quote):
    folder = project()
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("name: quick", f"name: {quote}quick{quote}"))
    (folder / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(StudyError, match="study quick already exists"):
        create_study(load_study(folder), "quick")


def test_a_new_study_has_no_comment_about_its_source(project):
    folder = project()
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(f"# The quick study.\n\n# It is quick.\n{text}# The end.\n")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    new = create_study(load_study(folder), "mine")
    expected = text.replace("name: quick", "name: mine").replace("root: .\n", "root: ../..\n")
    assert (new / "params.yaml").read_text() == f"{expected}# The end.\n"


def test_a_cell_that_repeats_another_one_is_refused(project):
    """The arm `dynamic-reseeded` adds 500 to the seed of the cell."""
    message = r"params\.yaml: seeds: dynamic-reseeded-0 repeats dynamic-500, .*; choose other seeds"
    with pytest.raises(StudyError, match=message):
        load_study(project(lambda content: content.update(seeds=[0, 500])))
    assert load_study(project(lambda content: content.update(seeds=[0, 501]))).settings.seeds == [0, 501]


def test_two_equal_arms_are_refused(project):
    folder = project(lambda content: content.update(arms=["dynamic", "all-mask", "twin"]) or
                     content["search"].update(arms=["dynamic"]))
    path = folder / "experiments" / "arms.yaml"
    arms = load_yaml(path.read_text())
    path.write_text(dump_yaml(arms | {"twin": arms["all-mask"]}))
    with pytest.raises(StudyError, match="arms: twin is the same as all-mask"):
        load_study(folder)


def test_an_arm_without_a_loss_on_masked_tokens_cannot_be_tuned(project):
    for arm, message in (("left-to-right", "is a causal model"), ("untrained", "is not trained")):
        with pytest.raises(StudyError, match=f"search.arms: {arm} {message}"):
            load_study(project(lambda content, arm=arm: content.update(arms=["dynamic", arm]) or
                               content["search"].update(arms=[arm])))


def models(model: type[pydantic.BaseModel]) -> set[type[pydantic.BaseModel]]:
    """A model and those of its fields, at any depth."""
    definitions = {cls.__name__: cls for cls in subclasses(Settings)}
    names = model.model_json_schema().get("$defs", {})
    return {model, *(definitions[name] for name in names)}


def subclasses(cls: type) -> set[type]:
    return {cls, *(deeper for direct in cls.__subclasses__() for deeper in subclasses(direct))}


@pytest.mark.parametrize("model", sorted(models(StudyConfig) | {schema.Arm}, key=lambda model: model.__name__))
def test_every_setting_is_described(model):
    assert model.__doc__
    sections = {name for name, field in model.model_fields.items()
                if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)}
    assert [name for name, field in model.model_fields.items() if not field.description and name not in sections] == []
