"""`study finetune CELL --task FILE`: what files it reads, what it prints, and what it exports."""
import hashlib
import os
import re
import shutil
import stat
from pathlib import Path

import datasets
import pandas as pd
import pytest
import torch
import yaml
from typer.testing import CliRunner

from study import StudyError
from study.analysis.results import read_json
from study.analysis.statistics import rate_interval
from study.cli.app import app
from study.config.load import load_study
from study.data.tokenizer import TokenizerInfo, load
from study.evaluation.embedding import load_cell
from study.finetuning.by_hand import DEFAULT, finetune_file, read_labelled, recipe_with, split_rows
from study.finetuning.classifier import new_classifier
from study.finetuning.export import check_export, export_classifier
from study.finetuning.finetune import varied
from tests.support.training import trained_project

WRITERS = {"csv": lambda frame, path: frame.to_csv(path, index=False),
           "csv.gz": lambda frame, path: frame.to_csv(path, index=False),
           "tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
           "json": lambda frame, path: frame.to_json(path, orient="records"),
           "jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
           "CSV": lambda frame, path: frame.to_csv(path, index=False),
           "JSONL.GZ": lambda frame, path: frame.to_json(path, orient="records", lines=True),
           "parquet": lambda frame, path: frame.to_parquet(path)}


@pytest.fixture(scope="module")
def frame():
    """Rows of two classes with words of their own."""
    words = (trained_project() / "runs/tiny/corpus/lexicon.txt").read_text().split()
    return pd.DataFrame([{"text": " ".join(words[20 * label + (i + j) % 20] for j in range(5)),
                          "label": ["no", "yes"][label]} for i in range(60) for label in (0, 1)])


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_form_of_file_gives_the_same_rows(frame, tmp_path, suffix):
    path = tmp_path / f"rows.{suffix}"
    WRITERS[suffix](frame, path)
    assert read_labelled(path).equals(frame)
    train, test, labels = split_rows(path, None)
    assert labels == ["no", "yes"]
    assert (len(train), len(test)) == (96, 24)
    assert test.label.value_counts().to_dict() == {0: 12, 1: 12}
    assert sorted([*train.text, *test.text]) == sorted(frame.text)


def test_numbers_are_labels_in_the_order_of_numbers(tmp_path):
    pd.DataFrame({"text": ["a"] * 12, "label": [10, 9, 2] * 4}).to_csv(tmp_path / "rows.csv", index=False)
    assert split_rows(tmp_path / "rows.csv", None)[2] == ["2", "9", "10"]


def with_names(path: Path, names: list[str], labels: list[int]) -> Path:
    """Writes a file whose labels have these names in the file itself."""
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    rows = {"text": [f"text {number}" for number in range(len(labels))], "label": labels}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    return path


def test_names_of_classes_decide_which_class_is_which(tmp_path):
    """Training and test rows number the same classes in different orders."""
    task = with_names(tmp_path / "rows.parquet", ["pos", "neg"], [0, 1, 1, 0] * 3)
    test = with_names(tmp_path / "test.parquet", ["neg", "pos"], [0, 1, 1])
    train, heldout, labels = split_rows(task, test)
    assert labels == ["neg", "pos"]
    assert train.sort_values("text", key=lambda texts: texts.str[5:].astype(int)).label.tolist() == [1, 0, 0, 1] * 3
    assert heldout.label.tolist() == [0, 1, 1]


def test_rows_without_a_label_are_refused_where_classes_have_names(tmp_path):
    with pytest.raises(StudyError, match="rows.parquet: 2 rows have -1, which marks rows without a label"):
        read_labelled(with_names(tmp_path / "rows.parquet", ["neg", "pos"], [0, -1, 1, -1]))


BAD = {
    "another kind of file": ("rows.txt", "text,label\n", "rows.txt: its name must end in .parquet, .csv, .tsv, .json "
                             "or .jsonl (to all but .parquet .gz may be added); rename or convert the file"),
    "no file": ("gone.csv", None, "gone.csv: no such file"),
    "no rows": ("rows.csv", "text,label\n", "rows.csv: has no rows"),
    "semicolons": ("rows.csv", "text;label\na;b\n", "';' seems to separate the fields"),
    "rows without a label": ("rows.csv", "text,label\na,1\nb,-1\nc,0\nd,-1\n", "rows.csv: 2 rows have -1, which marks "
                             "rows without a label: remove them from the file"),
    "no label": ("rows.csv", "text,class\na,b\n", "no column label; it has text, class"),
    "one class": ("rows.csv", "text,label\na,b\nc,b\n", "1 classes; at least 2"),
    "an empty value": ("rows.jsonl", '{"text": "a", "label": 1}\n{"text": null, "label": 0}\n', "row 1 has no text"),
    "a number for a text": ("rows.jsonl", '{"text": "a", "label": 1}\n{"text": 5, "label": 0}\n', "row 1: text is not"),
    "no JSON": ("rows.jsonl", '{"text": "a", "label": 1}\n\n{"text" 5}', "rows.jsonl, line 3: not JSON (Expecting ':' "
                "delimiter, column 9)"),
    "a list in JSON lines": ("rows.jsonl", "[1, 2]\n", "no column label; it has text"),
    "an empty label": ("rows.csv", "text,label\na,b\nc,\nd,e\n", "row 1 has no text or label"),
    "a comma in every text": ("rows.csv", "text,label\na, b,c\nd, e,f\n",
                              "its first row has more fields than the header; put quotes around fields"),
    "a comma in a text": ("rows.csv", "text,label\na,c\nd, e,f\n",
                          "line 3 has more fields than the header; put quotes around fields"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD)
def test_an_unusable_file_is_one_line_with_its_name_and_the_cause(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(StudyError, match=re.escape(message)) as error:
        split_rows(tmp_path / name, None)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a\u2028b", "label": 1}\n{"text": "", "label": 0}\n')
    assert read_labelled(tmp_path / "rows.jsonl").text.tolist() == ["a\u2028b", ""]


def test_test_rows_of_their_own(frame, tmp_path):
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame[:10].to_csv(tmp_path / "test.csv", index=False)
    train, test, _ = split_rows(tmp_path / "rows.csv", tmp_path / "test.csv")
    assert (len(train), len(test)) == (120, 10)
    frame[:10].assign(label="maybe").to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(StudyError, match="test.csv: label maybe does not occur in"):
        split_rows(tmp_path / "rows.csv", tmp_path / "test.csv")
    frame[:10].assign(text_pair="a").to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(StudyError, match="text_pair must be in both files or in neither"):
        split_rows(tmp_path / "rows.csv", tmp_path / "test.csv")


def test_settings_of_the_recipe_can_be_changed():
    study = load_study(trained_project())
    recipe = study.settings.finetune.recipe
    changed = recipe_with(study, ["epochs=5", "learning_rates=1.0e-3", "max_grad_norm=null", "pooling=cls"])
    assert changed == recipe.model_copy(update={"epochs": 5, "learning_rates": [1e-3], "max_grad_norm": None,
                                                "pooling": "cls"})
    without = study.model_copy(update={"settings": study.settings.model_copy(
        update={"finetune": type(study.settings.finetune)()})})
    assert recipe_with(without, []) == DEFAULT
    for change, message in (("epoch=5", "did you mean epochs"), ("epochs", "is not a setting"), ("epochs=0", "epochs:"),
                            ("epochs=[1", r"--set epochs=\[1: the value is not YAML; write for example epochs=5"),
                            ("seeds=3", "seeds is not a setting")):
        with pytest.raises(StudyError, match=message):
            recipe_with(study, [change])


def test_the_help_says_what_arm_and_seed_are():
    output = CliRunner().invoke(app, ["finetune", "--help"], env={"COLUMNS": "200"}).output
    assert "Arm, as named in experiments/arms.yaml." in output
    assert "Seed of the cell." in output


@pytest.fixture(scope="module")
def classifier():
    """A classifier as fine-tuning makes it, the settings of its cell and its tokenizer."""
    study = load_study(trained_project())
    config, model = load_cell(study, "dynamic", 0)
    recipe, tokenizer = varied(DEFAULT, {"pooling": "cls"}), study.runs / "tokenizer"
    return new_classifier(model, config, recipe, TokenizerInfo.of(load(tokenizer)), 2, 0, 0), config, tokenizer


def test_an_export_has_the_permissions_of_the_users_umask(classifier, tmp_path):
    before = os.umask(0o027)
    try:
        export_classifier(*classifier[:2], ["no", "yes"], classifier[2], tmp_path / "out")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()} == {0o640}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750


def test_an_export_that_fails_leaves_no_folder(classifier, tmp_path, monkeypatch):
    def fails(self, *arguments, **keywords):
        raise OSError("no space left")

    monkeypatch.setattr("transformers.PreTrainedTokenizerBase.save_pretrained", fails)
    with pytest.raises(OSError, match="no space"):
        export_classifier(*classifier[:2], ["no", "yes"], classifier[2], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_training_that_diverges_at_every_rate_is_an_error(frame, tmp_path):
    study = load_study(trained_project())
    frame.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(StudyError, match=r"diverged at every learning rate \(1e\+30\); pass smaller ones"):
        finetune_file(study, "dynamic", 0, tmp_path / "rows.csv", None,
                      recipe_with(study, ["epochs=1", "learning_rates=1.0e+30"]))


def test_a_causal_model_is_not_read_from_its_first_token(frame, tmp_path, monkeypatch):
    study = load_study(trained_project())
    config, model = load_cell(study, "dynamic", 0)
    causal = config.model_copy(update={"objective": config.objective.model_copy(update={"token_objective": "causal"})})
    monkeypatch.setattr("study.finetuning.by_hand.load_cell", lambda *_: (causal, model))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(StudyError, match="dynamic-0: is a causal model, whose .CLS. sees no text; pass --set pooling"):
        finetune_file(study, "dynamic", 0, tmp_path / "rows.csv", None, varied(DEFAULT, {"pooling": "cls"}))


def test_too_many_classes_for_an_export_are_refused_before_training(tmp_path):
    study = load_study(trained_project())
    with pytest.raises(StudyError, match="40 classes need a dense layer"):
        check_export(study, "dynamic", 0, DEFAULT, 40, tmp_path / "out")


def test_the_command_learns_prints_and_exports_what_it_scored(frame, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    study = load_study(shutil.copytree(trained_project(), tmp_path / "study"))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    settings = ["pooling=cls", "epochs=6", "learning_rates=0.003"]
    result = CliRunner().invoke(app, ["finetune", "dynamic-0", "--task", str(tmp_path / "rows.csv"), "--study",
                                      str(tmp_path / "study"), "--export", str(tmp_path / "out"),
                                      *(part for value in settings for part in ("--set", value))])
    assert result.exit_code == 0, result.output + str(result.exception)
    printed = re.search(r"accuracy ([\d.]+)% on 24 test rows \(commonest class 50.0%\)", result.output)
    done = finetune_file(study, "dynamic", 0, tmp_path / "rows.csv", None, recipe_with(study, settings))
    assert float(printed[1]) == pytest.approx(100 * done.accuracy, abs=0.06)
    assert done.accuracy > 0.8
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    test = split_rows(tmp_path / "rows.csv", None)[1]
    with torch.inference_mode():
        logits = loaded(**tokenizer(test.text.tolist(), padding=True, return_tensors="pt")).logits
    assert (logits.argmax(-1).numpy() == test.label.to_numpy()).mean() == pytest.approx(done.accuracy)
    assert not (study.cell("dynamic", 0) / "finetune.json").exists()
    printed = {match[1]: int(match[2].replace(",", ""))
               for match in re.finditer(r"^  (\S+)  ([\d,]+) bytes$", result.output, re.M)}
    assert printed == {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= printed.keys()
    check_card((tmp_path / "out/README.md").read_text(), study, done, tmp_path / "rows.csv")
    check_how_to_load((tmp_path / "out/README.md").read_text(), tmp_path / "out", test.text.tolist()[0], loaded)


def check_card(card: str, study, done, task: Path) -> None:
    """The card of the exported classifier has the data file, the classes, the accuracy, the recipe and the cell."""
    _, head, text = card.split("---\n", 2)
    metadata = yaml.safe_load(head)
    (result,) = metadata["model-index"][0]["results"]
    assert (metadata["pipeline_tag"], metadata["model_name"]) == ("text-classification", "dynamic-0-rows")
    assert (result["dataset"]["name"], result["metrics"][0]["value"]) == ("rows.csv", round(done.accuracy, 4))
    assert re.findall(r"^## (.*)$", text, re.M) == ["Data", "Scores", "Settings", "Limits", "How to load"]
    assert f"`rows.csv` (SHA-256 {hashlib.sha256(task.read_bytes()).hexdigest()[:16]})" in text
    held_out = re.search(r": (\d+) rows, and (\d+) held out to .* Tested on 24 rows drawn from the same file", text)
    assert int(held_out[1]) + int(held_out[2]) == 96
    counts = {name: list(map(int, rows)) for name, *rows in re.findall(
        r"^\| (no|yes) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.M)}
    assert [sum(rows) for rows in counts.values()] == [60, 60]
    assert [rows[2] for rows in counts.values()] == [12, 12]
    assert [sum(rows) for rows in zip(*counts.values(), strict=True)] == [int(held_out[1]), int(held_out[2]), 24]
    numbers = re.search(r"^\| accuracy, 24 test rows of rows.csv \| (\S+) \[(\S+), (\S+)\] \| 0.5 \|$", text, re.M)
    assert [float(number) for number in numbers.groups()] == pytest.approx(
        [done.accuracy, *rate_interval(round(24 * done.accuracy), 24)], rel=1e-3)
    assert "| `finetune.recipe.epochs` | 6 |" in text
    assert "train_sizes" not in text
    assert "the arm dynamic, seed 0, of the study tiny" in text
    assert f"`{read_json(study.cell('dynamic', 0) / 'training.json')['fingerprint']}`" in text


def check_how_to_load(card: str, folder: Path, example: str, model) -> None:
    """The code of the card gives the class of a text."""
    from transformers import AutoTokenizer

    names: dict = {"FOLDER": str(folder)}
    exec(re.search(r"```python\n(.*?)```", card, re.S)[1].replace("A text.", example), names)
    rows = AutoTokenizer.from_pretrained(folder)([example], return_tensors="pt")
    with torch.inference_mode():
        assert names["classes"] == [model.config.id2label[int(model(**rows).logits.argmax())]]


def test_the_card_of_a_classifier_names_both_files_and_escapes_the_names_of_classes(tmp_path):
    from study.analysis.model_card import ClassifierRun, classifier_card

    run = ClassifierRun([("a.csv", "ab" * 32), ("b.csv", "cd" * 32)], {"x | y": (3, 1, 2), "z": (30, 2, 8)}, 0.9, 0.8,
                        1e-3, DEFAULT.model_dump() | {"max_length": 9})
    card = classifier_card(load_study(trained_project()), "dynamic", 0, "BertForSequenceClassification", run)
    assert "Fine-tuned on `a.csv` (SHA-256 abababababababab): 33 rows, and 3 held out" in card
    assert "Tested on 10 rows of `b.csv` (SHA-256 cdcdcdcdcdcdcdcd)." in card
    assert "| x \\| y | 3 | 1 | 2 |" in card
    assert "| accuracy, 10 test rows of b.csv | 0.9 [0.555, 0.9975] | 0.8 |" in card
    assert "at most 9 tokens" in card


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "give --arm and --seed"), (["--arm", "static", "--seed", "0"], "static is not among finetune.arms"),
    (["--task", "rows.csv"], "--task rows.csv needs CELL, such as dynamic-0, and neither --arm nor --seed"),
    (["--arm", "dynamic", "--seed", "0", "--task", "rows.csv"], "--task rows.csv needs CELL"),
    (["dynamic-0"], "give --arm and --seed"), (["nobody-0", "--task", "rows.csv"], "no cell nobody-0"),
    (["dynamic-0", "--task", "rows.csv", "--export", "out"], "pooling is mean")])
def test_a_wrong_call_says_what_to_give(arguments, message):
    result = CliRunner().invoke(app, ["finetune", *arguments, "--study", str(trained_project())])
    assert isinstance(result.exception, StudyError)
    assert message in str(result.exception)
