"""The commands that show what an arm does, run on three trained cells of the tiny study."""
import re
import shlex
import shutil

import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner

from study import StudyError
from study.cli.app import app
from study.cli.explore import _note_unknown_words
from study.config.load import load_study
from study.config.yaml_files import parse_yaml
from study.data.tokenizer import SPECIALS, load
from study.training.pretrain import pretrain
from study.training.search import search
from tests.support.fake_results import compare, fake_study
from tests.support.studies import tiny_study

STATIC_40 = """
static-40:
  description: As static, at another rate.
  factor: masking
  baseline: static
  source: a test
  source_reports: No published number.
  changes: {masking: {mlm_probability: 0.4}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study with three cells trained for a few steps."""
    arms = "arms: [dynamic, left-to-right, linear-decoder]"
    study = tiny_study(tmp_path_factory.mktemp("cli") / "study",
                       lambda params: re.sub(r"^arms: .*?\]", arms, params, flags=re.M | re.S))
    search(study)
    for arm, seed in study.cells:
        pretrain(study, arm, seed)
    return study.folder


@pytest.fixture(scope="module")
def words(folder):
    return load(load_study(folder).runs / "tokenizer").decode(list(range(5, 15)))


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_mask_shows_the_table_and_the_shares(folder, words):
    text = run("mask", words, "--arm", "static", "--epochs", 3, "--study", folder)
    assert all(name in text for name in ("original", "shown", "label", "corruption", "pass 3", "untouched"))
    assert re.search(r"1[45]\.\d% of the ordinary tokens selected", " ".join(text.split()))
    assert "next token" in run("mask", words, "--arm", "left-to-right", "--study", folder)
    assert "note" not in text


def test_mask_shows_an_arm_that_starts_from_another_one_after_its_start(folder, words, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(folder, project)
    path = project / "experiments" / "arms.yaml"
    path.write_text(path.read_text().replace("from: {arm: dynamic, step: 1000}", "from: {arm: dynamic, step: 3}"))
    text = " ".join(run("mask", words, "--arm", "all-mask-from-1000", "--study", project).split())
    assert "these are the masks after step 3; up to it, all-mask-from-1000 trains as dynamic does" in text
    assert "of these 100.0% mask, 0.0% random, 0.0% keep" in text


def test_predict_shows_cells_in_columns(folder, words):
    text = run("predict", f"{words} [MASK] {words.split()[0]} [MASK]", "--cells", "dynamic-0", "linear-decoder-0",
               "--study", folder, "--top", 3)
    assert "dynamic-0" in text
    assert "linear-decoder-0" in text
    assert "[MASK] 2" in text
    assert text.count("%") == 2 * 2 * 3


def test_encode_shows_the_states_of_a_pair_and_writes_them(folder, words, tmp_path):
    text = run("encode", words, words, "--cell", "dynamic-0", "--study", folder, "--out", tmp_path / "states.v1")
    states = np.load(tmp_path / "states.v1.npy", allow_pickle=False)
    assert states.shape == (23, 32)
    assert states.dtype == np.float32
    assert "23 tokens x 32" in text
    assert text.count("[SEP]") == 2


def test_rows_writes_what_a_cell_with_static_masks_is_trained_on(folder, tmp_path):
    from datasets import Dataset

    project = tmp_path / "project"
    shutil.copytree(folder, project)
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("arms: [dynamic,", "arms: [dynamic, static, scratch,"))
    for arm in ("static", "scratch"):
        path = tmp_path / f"{arm}.parquet"
        text = " ".join(run("rows", f"{arm}-0", "--to", path, "--study", project).split())
        rows = Dataset.from_parquet(str(path), cache_dir=str(tmp_path / arm), keep_in_memory=True)
        assert f"wrote {len(rows)} rows" in text
        assert any(rows["is_random_next"]) == (arm == "scratch")
    before = path.read_bytes()
    for cell, to, message in (("dynamic-0", "new.parquet", "its rows are not the same in every epoch; choose an arm"),
                              ("static-0", "none/a.parquet", "no such folder; create it"),
                              ("static-0", "scratch.parquet", "scratch.parquet: already exists; choose a new file")):
        with pytest.raises(StudyError, match=message):
            run("rows", cell, "--to", tmp_path / to, "--study", project)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("key", "trials", "arm", "refused"), [
    ("masking.mlm_probability", 2, "static", True), ("training.data_fraction", 2, "static", True),
    ("masking.mlm_probability", 0, "static", False), ("training.weight_decay", 2, "static", False),
    ("masking.mlm_probability", 2, "static-40", False)])
def test_rows_are_not_written_if_the_search_chooses_what_decides_them(folder, tmp_path, key, trials, arm, refused):
    """The arm static-40 has a rate of masks of its own."""
    project, path = tmp_path / "project", tmp_path / "rows.parquet"
    shutil.copytree(folder, project)
    content = parse_yaml((project / "params.yaml").read_text())
    content["arms"] += ["static", "static-40"]
    content["search"] |= {"trials": trials, "space": {key: {"low": 0.1, "high": 0.2, "log": True}}}
    (project / "params.yaml").write_text(yaml.safe_dump(content))
    arms = project / "experiments/arms.yaml"
    arms.write_text(arms.read_text() + STATIC_40)
    if not refused:
        run("rows", f"{arm}-0", "--to", path, "--study", project)
        assert path.exists()
        return
    with pytest.raises(StudyError, match=rf"arm {arm}: the search chooses {key}, which decides its rows; in "
                                         rf"\S*params\.yaml, set {key} to the value in \S*best\.yaml and remove it"):
        run("rows", f"{arm}-0", "--to", path, "--study", project)
    assert not path.exists()


@pytest.mark.parametrize("command", ["mask", "predict", "encode"])
def test_the_examples_in_the_help_use_words_of_the_built_in_language(folder, command):
    text = " ".join(typer.main.get_command(app).commands[command].help.split())
    example = re.search(r"Example: study (.*) --study", text)[1]
    output = run(*shlex.split(example.replace("static-0", "linear-decoder-0")), "--study", folder)
    assert "[UNK]" not in output
    assert "not in the vocabulary" not in output


@pytest.mark.parametrize("arguments", [
    ("mask", "magoku a cat", "--arm", "static"), ("encode", "magoku a", "cat", "--cell", "dynamic-0"),
    ("predict", "a magoku [MASK] cat", "--cells", "dynamic-0")])
def test_unknown_words_are_counted(folder, arguments):
    note = "note: 2 of the words are not in the vocabulary of study tiny; it knows words such as magoku, "
    assert note in " ".join(run(*arguments, "--study", folder).split())


@pytest.mark.parametrize(("pieces", "clause"), [
    (["##e", "##g", "e", "the", "[unused1]", "##ing", "of", "and", "to"], "; it knows words such as the, of, and"),
    (["##e", "e", "g", "##ing"], "")])
def test_the_note_on_unknown_words_names_whole_words(folder, monkeypatch, capsys, pieces, clause):
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {piece: number for number, piece in enumerate([*SPECIALS, *pieces])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    monkeypatch.setattr("study.data.tokenizer.load", lambda path: backend)
    _note_unknown_words(load_study(folder), "zz e")
    assert capsys.readouterr().out == f"note: 1 of the words are not in the vocabulary of study tiny{clause}\n"


def test_claims_are_shown_and_strict_fails(tmp_path):
    study = fake_study(tmp_path)
    compare(study)
    table = run("claims", "--study", tmp_path)
    assert table.index("unigram frequencies") < table.index("baseline, dynamic") < table.index("S0.11")
    assert "undecided" in table
    assert "checks of code and arithmetic" in table
    assert max(map(len, table.splitlines())) <= 120
    assert run("claims", tmp_path) == table
    claim = run("claims", "S0.11", "--study", tmp_path)
    assert "too few seeds: 2" in claim
    assert "dynamic, per seed: " in claim
    assert CliRunner().invoke(app, ["claims", "--strict", "--study", str(tmp_path)]).exit_code == 1
    assert CliRunner().invoke(app, ["claims", "S0.2", "--strict", "--study", str(tmp_path)]).exit_code == 0
    with pytest.raises(StudyError, match="no claim S0.111; did you mean S0.1"):
        run("claims", "S0.111", "--study", tmp_path)
    with pytest.raises(StudyError, match=r"no claim x; `study claims` lists those that the study tests, and \S*tiny/"
                                         r"tables/claims\.csv has all \d+$"):
        run("claims", "x", "--study", tmp_path)
    with pytest.raises(StudyError, match="experiments/nix: no params.yaml there"):
        run("claims", "experiments/nix", "--study", tmp_path)


def test_export_names_the_model_that_it_wrote(folder, tmp_path):
    assert "RoFormerForMaskedLM" in run("export", "dynamic-0", "--to", tmp_path / "out", "--study", folder)
    assert (tmp_path / "out" / "config.json").exists()


def test_verify_reports_a_cell_without_a_record_before_it_makes_the_examples(folder, monkeypatch):
    monkeypatch.setattr("study.orchestration.dvc_commands.make_examples", lambda study: pytest.fail("made"))
    path = load_study(folder).cell("dynamic", 0) / "settings.yaml"
    path.rename(path.with_suffix(".moved"))
    with pytest.raises(StudyError, match=r"dynamic-0/settings\.yaml"):
        run("verify", folder, "--cell", "dynamic-0")
    path.with_suffix(".moved").rename(path)


@pytest.mark.parametrize(("arguments", "message"), [
    (("predict", "no mask", "--cells", "dynamic-0"), "has no [MASK];"),
    (("predict", "[MASK] " + "a " * 40 + "[MASK]", "--cells", "dynamic-0"), "1 of the 2 [MASK] are beyond"),
    (("encode", "a", "--cell", "dynamic-0", "--out", "nowhere/states"), "nowhere: no such folder"),
    (("predict", "[MASK]", "--cells", "dynamc-0"), "no cell dynamc-0; did you mean dynamic-0?"),
    (("predict", "[MASK]", "--cells", "left-to-right-0"), "cannot fill in a [MASK]"),
    (("mask", "text", "--arm", "statc"), "unknown arm 'statc'; did you mean static?"),
    (("mask", "zzz qqq", "--arm", "static"), "no word of the text can be masked"),
    (("verify", "--cell", "dynamic-0", "--cells", 2), "--cell and --cells exclude each other"),
    (("run", "--gpus", 0.5), "--gpus is the share of a GPU on a Ray cluster; pass --ray as well"),
    (("encode", "a", "b", "c", "--cell", "dynamic-0"), "3 texts"),
    (("encode", "a " * 90, "--cell", "dynamic-0"), "a row of tiny has only 32"),
    (("export", "linear-decoder-0", "--to", "nowhere"), "no equivalent in transformers")])
def test_an_impossible_request_is_an_error_of_one_line(folder, arguments, message):
    with pytest.raises(StudyError) as error:
        run(*arguments, "--study", folder)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
