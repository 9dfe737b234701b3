"""Tables of minimal pairs: which pairs are drawn, how they reach a corpus, and what is wrong with a bad file."""
import json

import numpy as np
import pandas as pd
import pytest

from study import StudyError
from study.config.load import load_study
from study.data.corpus import write_corpus
from study.data.examples import write_input_manifests
from study.data.minimal_pairs import frame_of, read_pairs
from study.data.pair_files import read_file
from study.files import file_sha256
from tests.support.minimal_pairs import with_pairs, write_pairs
from tests.support.studies import tiny_study

COLUMNS = ("sentence_good", "sentence_bad", "linguistics_term", "UID")


def table(count: int = 40) -> pd.DataFrame:
    numbers = np.arange(count)
    return pd.DataFrame({"sentence_good": [f"good {n}" for n in numbers],
                         "sentence_bad": [f"bad {n}" for n in numbers],
                         "UID": [f"paradigm-{n % 4}" for n in numbers],
                         "linguistics_term": [f"phenomenon-{n % 2}" for n in numbers]})


def test_all_pairs_are_kept_in_their_order():
    frame = frame_of(table(), *COLUMNS, None, "here")
    assert list(frame.columns) == ["good", "bad", "phenomenon", "paradigm"]
    assert frame.good.tolist() == table().sentence_good.tolist()


def test_the_same_number_is_drawn_of_each_paradigm_and_a_draw_of_fewer_is_part_of_it():
    frames = {most: frame_of(table(), *COLUMNS, most, "here") for most in (3, 5, 99)}
    assert frames[5].paradigm.value_counts().tolist() == [5] * 4
    assert set(frames[3].good) < set(frames[5].good)
    assert len(frames[99]) == 40
    assert frames[3].equals(frame_of(table(), *COLUMNS, 3, "here"))
    assert frames[5].good.str.split().str[1].astype(int).is_monotonic_increasing


def test_without_paradigms_pairs_stand_alone_and_are_drawn_of_each_phenomenon():
    frame = frame_of(table(), *COLUMNS[:3], None, 5, "here")
    assert frame.phenomenon.value_counts().tolist() == [5, 5]
    assert frame.paradigm.is_unique
    alone = frame_of(table(), *COLUMNS[:2], None, None, 5, "here")
    assert alone.phenomenon.tolist() == 5 * ["all"]


@pytest.mark.parametrize(("rows", "message"), [
    (table().iloc[:0], "here: no pairs; give it rows"),
    (table().assign(sentence_bad=lambda frame: frame.sentence_bad.where(frame.index != 7)), "row 7 lacks a sentence"),
    (table().assign(sentence_good=lambda frame: frame.sentence_good.where(frame.index != 3, " ")), "row 3 lacks")])
def test_a_table_without_text_is_refused(rows, message):
    with pytest.raises(StudyError, match=message):
        frame_of(rows, *COLUMNS, None, "here")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz", ".tsv", ".json", ".jsonl"])
def test_files_of_every_kind_give_the_same_pairs(tmp_path, suffix):
    path = tmp_path / f"pairs{suffix}"
    {".parquet": lambda: table().to_parquet(path), ".csv": lambda: table().to_csv(path, index=False),
     ".csv.gz": lambda: table().to_csv(path, index=False), ".tsv": lambda: table().to_csv(path, index=False, sep="\t"),
     ".json": lambda: table().to_json(path, orient="records"),
     ".jsonl": lambda: table().to_json(path, orient="records", lines=True)}[suffix]()
    assert read_file(path, None, None, None).equals(frame_of(table(), *COLUMNS, None, "here"))
    assert read_file(path, "UID", None, None).phenomenon.nunique() == 4


def test_a_file_needs_no_columns_but_the_sentences(tmp_path):
    path = tmp_path / "pairs.parquet"
    table()[["sentence_good", "sentence_bad"]].to_parquet(path)
    frame = read_file(path, None, None, None)
    assert frame.phenomenon.unique().tolist() == ["all"]
    assert frame.paradigm.is_unique


@pytest.mark.parametrize(("name", "content", "message"), [
    ("pairs.txt", "x", r"pairs\.txt: its name must end in \.parquet, \.csv, \.tsv, \.json or \.jsonl"),
    ("pairs.parquet", "x", r"pairs\.parquet: cannot be read as parquet"),
    ("pairs.jsonl", "{", r"pairs\.jsonl, line 1: not JSON"),
    ("nowhere.csv", None, r"nowhere\.csv: no such file"),
    ("pairs.csv", "sentence_good\na\n", "no column 'sentence_bad'; it has sentence_good")])
def test_an_unusable_file_is_an_error_of_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(StudyError, match=message) as error:
        read_file(tmp_path / name, None, None, None)
    assert "\n" not in str(error.value)


# ---- in a study

@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with the pairs, which no test changes."""
    folder = tmp_path_factory.mktemp("data")
    write_pairs(folder, [f"word{n} and word{n + 1}" for n in range(36)])
    return folder


@pytest.fixture
def study(data, tmp_path, monkeypatch):
    """The tiny study with a task, of which five pairs of each paradigm are drawn."""
    monkeypatch.setenv("STUDY_DATA", str(data))
    return tiny_study(tmp_path / "study", lambda text: with_pairs(text, "5"))


def rewrite(study) -> dict:
    documents = [[["one two ."]], [["two three ."]]]
    rows = pd.DataFrame({"text": [f"row {n}" for n in range(12)], "label": np.arange(12) % 4})
    return write_corpus(study, study.runs / "corpus", lambda split: documents, lambda split: rows)


def test_the_corpus_holds_the_drawn_pairs_and_their_hash(study):
    manifest = rewrite(study)
    assert manifest["counts"]["pairs_order"] == 15
    assert manifest["sha256"]["pairs-order.parquet"] == file_sha256(study.runs / "corpus" / "pairs-order.parquet")
    frame = read_pairs(study, study.settings.evaluation.minimal_pairs[0])
    assert frame.paradigm.value_counts().to_dict() == {"short": 5, "long": 5, "same": 5}


def test_cells_depend_on_the_pairs(study):
    rewrite(study)
    folder = study.runs / "examples"
    (folder / "baselines.json").write_text("{}")
    write_input_manifests(study, folder)
    inputs = json.loads((folder / "evaluation_inputs.json").read_text())
    assert inputs["pairs"] == {"pairs-order.parquet": file_sha256(study.runs / "corpus" / "pairs-order.parquet")}
    (study.runs / "corpus" / "pairs-order.parquet").unlink()
    write_input_manifests(study, folder)
    assert "pairs" not in json.loads((folder / "evaluation_inputs.json").read_text())


def test_pairs_that_the_corpus_lacks_are_an_error(study):
    (study.runs / "corpus" / "pairs-order.parquet").unlink()
    with pytest.raises(StudyError, match=r"pairs-order\.parquet: no usable pairs .*; run `study corpus`"):
        read_pairs(study, study.settings.evaluation.minimal_pairs[0])


@pytest.fixture
def hub_study(study):
    """The same study, whose pairs are on the hub."""
    text = study.params_path.read_text()
    study.params_path.write_text(text.replace("local: pairs", "local: null"))
    return load_study(study.folder)


def test_all_configurations_of_a_data_set_on_the_hub_are_read(hub_study, monkeypatch):
    import datasets

    parts = {name: datasets.Dataset.from_pandas(part.reset_index(drop=True)) for name, part in table().groupby("UID")}
    loaded = []

    def load(path, configuration, revision, split):
        loaded.append((path, configuration, revision, split))
        return parts[configuration]

    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda path, revision: list(parts))
    monkeypatch.setattr(datasets, "load_dataset", load)
    assert rewrite(hub_study)["counts"]["pairs_order"] == 20
    assert loaded == [("made/up", name, None, "train") for name in parts]


def test_a_data_set_that_cannot_be_loaded_is_named(hub_study, monkeypatch):
    import datasets

    def fail(*_, **__):
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "get_dataset_config_names", fail)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(StudyError, match=r"made/up .*offline") as error:
        rewrite(hub_study)
    assert "\n" not in str(error.value)
