"""`study rename`: the study has another name everywhere, and its trained cells stay up to date."""
import json
import re
from pathlib import Path

import pytest

from study.orchestration.rename import rename_study
from study.tracking.runs import rename_experiment, track
from study.training.search import search
from tests.support.bad_input import assert_refused, written
from tests.support.fake_results import compare, fake_study
from tests.support.mlflow_server import runs
from tests.support.project import STUDY, copy_of_finished_project, run, small_files
from tests.support.studies import tiny_study
from tests.support.training import counts

NAMES = [
    ("capitals", lambda root: None, "Small", "'Small': the name of a study has lower-case letters, digits and hyphens"),
    ("its own", lambda root: None, "tiny", "study tiny already exists; choose another name"),
    ("of another study", written("experiments/other/params.yaml", "name: small\n"), "small", "small already exists"),
    ("results there", written("runs/small/x.json", "{}"), "small", "runs/small: already exists; remove it"),
]


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    return fake_study(tmp_path_factory.mktemp("fake") / "project").folder


@pytest.mark.parametrize(("spoil", "name", "message"), [pytest.param(*row[1:], id=row[0]) for row in NAMES])
def test_a_name_that_is_taken_or_invalid_is_refused(fake, tmp_path, capsys, spoil, name, message):
    assert_refused(tmp_path / "root", fake, spoil, message, capsys, "rename", name)


def test_the_trained_cells_of_a_renamed_study_are_up_to_date(tmp_path):
    root = copy_of_finished_project(tmp_path / "project")
    before = small_files(root)
    output = run(*STUDY, "rename", "small", "--study", "experiments/tiny", cwd=root).stdout
    folder = root / "experiments" / "small"
    assert f"renamed tiny to small in {folder}; run `dvc repro` there" in output
    assert not (root / "experiments/tiny").exists()
    assert not (root / "runs/tiny").is_symlink()
    stale = json.loads(run("dvc", "status", "--json", cwd=folder).stdout)
    assert set(stale) <= {"compare", "report", "track"}
    assert "0 cells were stale" in run(*STUDY, "run", "experiments/small", cwd=root).stdout
    small = {str(path.relative_to(root / "runs/small")): path.read_bytes() for path in (
        root / "runs/small").rglob("*") if path.is_file()}
    assert {name: content for name, content in small.items() if name in before} == before
    trained = (root / "runs/small").glob("*/training.json")
    assert {json.loads(path.read_text())["study"] for path in trained} == {"small"}
    assert "Study small" in (root / "reports/small/index.html").read_text()
    assert run("dvc", "repro", cwd=folder).stdout.count("Running stage") == 0


def test_trials_and_runs_in_mlflow_have_the_new_name(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study = fake_study(tmp_path / "project")
    compare(study)
    track(study)
    _, before = runs(study, kind="cell")
    renamed = rename_study(study, "small")
    rename_experiment(renamed, "tiny")
    _, after = runs(renamed, kind="cell")
    assert {run.info.run_id for run in after} == {run.info.run_id for run in before}
    assert renamed.folder == study.folder.resolve()         # it is the root, not a folder of experiments/
    assert renamed.cell("dynamic", 0).is_dir()


def test_a_search_goes_on_with_the_trials_of_the_old_name(tmp_path):
    study = tiny_study(tmp_path / "study", lambda text: text.replace("trials: 0", "trials: 2"))
    search(study)
    made = counts(study.storage)
    renamed = rename_study(study, "small")
    assert not Path(study.storage.removeprefix("sqlite:///")).exists()
    assert counts(renamed.storage) == made == {"dynamic": 2}
    search(renamed)
    assert counts(renamed.storage) == made


def test_claims_and_pages_that_name_the_old_study_are_listed(tmp_path):
    from study.orchestration.rename import mentions

    study = fake_study(tmp_path / "project")
    (study.folder / "README.md").write_text("<!-- tiny:begin (written by `study readme`) -->\n")
    assert mentions(study, "tiny") == ["README.md"]
    named = mentions(study, "plateau")
    assert "README.md" not in named
    assert all(re.fullmatch(r"claim \S+ of experiments/claims.yaml", place) for place in named)
    assert named
