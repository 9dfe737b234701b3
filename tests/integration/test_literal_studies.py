"""The studies of tutorials as they stand, from the text to the report, on a small made-up text and for a few steps."""
import json
import re
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from study.analysis.results import read_records
from study.cli.app import app
from study.config.load import load_study
from tests.support.fake_results import compare
from tests.support.studies import ROOT, SYLLABLES, made_up_documents

SMALL = {"steps": 20, "eval_steps": 5, "logging_steps": 2, "warmup_steps": 4, "validation_rows": 40, "test_rows": 60,
         "pair_rows": 30, "train_rows": 40, "regularization": "[1.0]", "folds": 2,
         "num_hidden_layers": 2, "batch_size": 16, "poolings": "[mean]"}

# Studies of which some arms are still to be trained, with arms of theirs.
ARMS = {"characters": ("dynamic", "left-to-right", "left-to-right-sparse", "short-first-half", "unscaled-embeddings",
                       "unscaled-short-first-half"),
        "tutorial": ("tutorial", "tutorial-rotary")}
# Further settings of the tutorial at this size.
OF_TUTORIAL = {"remasked: {rows: 3200, steps: 500}": "remasked: {rows: 40, steps: 10}",
               "train_sizes: [100, 1000]": "train_sizes: [12]", "hidden_size: 256": "hidden_size: 64",
               "intermediate_size: 1024": "intermediate_size: 128", "plane_rows: 500": "plane_rows: 50"}


def wikitext_lines(documents) -> list[str]:
    lines = []
    for number, document in enumerate(documents):
        lines += ["", f" = Made up {number} = ", ""]
        lines += [f" {' '.join(paragraph)} " for paragraph in document]
    return lines


def articles(documents) -> list[str]:
    """A row for each document, with a paragraph per line and a short one that the tutorial leaves out."""
    return ["\n".join([f"Made up {number}", *(" ".join(paragraph) for paragraph in document)])
            for number, document in enumerate(documents)]


def small_study(root, name: str):
    """The study with all its arms, few rows, few steps and one seed, in a folder with its text."""
    for file in ("arms.yaml", "claims.yaml", f"{name}/params.yaml", f"{name}/discussion.md"):
        target = root / "experiments" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "experiments" / file, target)
    path = root / "experiments" / name / "params.yaml"
    params = re.sub(r"^seeds: .*$", "seeds: [7]", path.read_text(), flags=re.M)
    if name in ARMS:
        params = re.sub(r"^arms: .*$", f"arms: [{', '.join(ARMS[name])}]", params, flags=re.M)
    for old, new in OF_TUTORIAL.items() if name == "tutorial" else ():
        assert old in params
        params = params.replace(old, new)
    for key, value in SMALL.items():
        params = re.sub(rf"^(\s+){key}: .*$", rf"\g<1>{key}: {value}", params, flags=re.M)
    path.write_text(params.replace("draws: 5", "draws: 1"))
    texts = {"wikitext-2-v1": wikitext_lines, "wikipedia": articles}
    for folder in (*texts, "ag_news", "bert-base-uncased"):
        (root / "data" / folder).mkdir(parents=True)
    news = root / "data" / "ag_news"
    pieces = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *SYLLABLES,
              *(f"##{syllable}" for syllable in SYLLABLES)]
    (root / "data" / "bert-base-uncased" / "vocab.txt").write_text("\n".join(pieces) + "\n")
    for seed, split in enumerate(("train", "validation", "test")):
        for folder, lines in texts.items():
            pd.DataFrame({"text": lines(made_up_documents(14, seed))}).to_parquet(
                root / "data" / folder / f"{split}.parquet")
        sentences = [s for document in made_up_documents(30, 10 + seed) for part in document for s in part]
        pd.DataFrame({"text": sentences, "label": [number % 4 for number in range(len(sentences))]}).to_parquet(
            news / f"{split}.parquet")
    return load_study(root / "experiments" / name)


def run(study, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--study", str(study.folder)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module", params=["characters", "scratch", "tutorial"])
def finished(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("STUDY_DATA", raising=False)
        study = small_study(root, request.param)
        for stage in ("corpus", "tokenizer", "examples", "search"):
            run(study, stage)
        for arm, seed in study.cells:
            for stage in ("pretrain", "evaluate"):
                run(study, stage, "--arm", arm, "--seed", str(seed))
        compare(study)
        run(study, "report")
    return study


def test_every_arm_is_trained_and_reported(finished):
    page = (finished.reports / "README.md").read_text()
    for arm, seed in finished.cells:
        assert arm in page
        training = json.loads((finished.cell(arm, seed) / "training.json").read_text())
        assert training["steps"] == 20
        losses = [record["loss"] for record in read_records(finished.cell(arm, seed) / "metrics.jsonl")
                  if "loss" in record]
        assert losses[-1] < losses[0]


def test_the_discussion_is_in_the_report(finished):
    page = (finished.reports / "README.md").read_text()
    first = {"characters": "What is labml's here, and what is not",
             "scratch": "What is the article's here, and what is not",
             "tutorial": "The tutorial validates on one paragraph per row, draws new masks (80/10/10) each time"}
    assert first[finished.settings.name] in page
    figures = {path.stem for path in (finished.reports / "figures").glob("curves-*.svg")}
    assert "curves-rate-and-selection" not in figures       # of left-to-right arms, which have no NLL on [MASK]
    assert figures
    assert "{{" not in page


def test_the_masks_of_the_recipe_are_those_that_its_cells_record(finished):
    inputs = json.loads((finished.cell(finished.settings.baseline, 7) / "inputs.json").read_text())
    shares = inputs["shares"]
    expected = (0.81, 0.1, 0.09) if finished.settings.name == "characters" else (0.8, 0.1, 0.1)
    assert (shares["mask"], shares["random"], shares["keep"]) == pytest.approx(expected, abs=0.03)
    assert shares["selected"] == pytest.approx(0.15, abs=0.02)
    if finished.settings.name == "scratch":
        assert shares["negative"] == pytest.approx(0.5, abs=0.15)
        assert inputs["views_per_mask"] == pytest.approx(inputs["views_per_example"])


def test_claims_about_both_directions_of_reading_are_decided(finished):
    claims = json.loads((finished.reports / "claims.json").read_text())
    is_tested = finished.settings.name == "characters"
    for name in ("S1.3b", "S1.3c", "S1.3d", "S1.4", "S1.4b", "S1.5"):
        assert (claims[name]["result"]["outcome"] != "not testable here") == is_tested, name


def test_the_tutorial_alone_has_a_validation_and_a_probe_of_its_own(finished):
    is_tutorial = finished.settings.name == "tutorial"
    for arm, seed in finished.cells:
        records = read_records(finished.cell(arm, seed) / "metrics.jsonl")
        steps = [record["step"] for record in records if "remasked_nll" in record]
        assert steps == ([0, 10, 20] if is_tutorial else [])
        probed = json.loads((finished.cell(arm, seed) / "probe.json").read_text())
        assert list(probed) == (["ag-news-first", "ag-news"] if is_tutorial else ["ag-news"])
        rows = [task["more"][encoder]["tutorial"]["rows"] for task in probed.values()
                for encoder in ("trained", "untrained") if "tutorial" in task["more"][encoder]]
        assert rows == ([[40, 60]] * 4 if is_tutorial else [])
    page = (finished.reports / "README.md").read_text()
    assert ("| tutorial | 20 | – |" in page) == is_tutorial             # the tutorial prints no number for step 20
    claims = json.loads((finished.reports / "claims.json").read_text())
    for name in ("S0.3b", "S0.7b", "S0.8c", "S0.9c", "S0.10b", "S0.14c"):
        assert (claims[name]["result"]["outcome"] != "not testable here") == is_tutorial, name
    assert claims["S0.6"]["result"]["outcome"] == "not testable here"   # it is about step 5,000


def test_a_row_of_the_tutorial_is_one_paragraph(finished):
    """So rows are padded, and the lines of 50 characters or fewer are left out."""
    training = json.loads((finished.cell(finished.settings.baseline, 7) / "training.json").read_text())
    assert (training["padding_share"] > 0) == (finished.settings.name != "characters")
    if finished.settings.name == "tutorial":
        assert training["rows_seen"] == 20 * 16
        text = pd.read_parquet(finished.runs / "corpus" / "train.parquet").text
        assert not any(line.startswith("Made up") for line in text)
