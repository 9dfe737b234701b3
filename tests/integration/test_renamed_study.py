"""`study rename`: the study has another name everywhere, and its trained cells stay up to date."""
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from study import StudyError
from study.config.load import load_study
from study.config.study import STORAGE
from study.orchestration.rename import name_before, rename_study
from study.tracking.runs import rename_experiment, track
from study.training.search import search
from tests.support.bad_input import assert_refused, exit_status, written
from tests.support.fake_results import compare, fake_study
from tests.support.mlflow_server import runs
from tests.support.project import STUDY, copy_of_finished_project, run, small_files
from tests.support.studies import tiny_study
from tests.support.training import counts

NAMES = [
    ("capitals", lambda root: None, "Small", "'Small': the name of a study has lower-case letters, digits and hyphens"),
    ("a number", lambda root: None, "2026", "'2026': YAML reads this as a number"),
    ("a word that YAML reads as true", lambda root: None, "on", "'on': YAML reads this as a number or"),
    ("its own", lambda root: None, "tiny", "study tiny already exists; choose another name"),
    ("of another study", written("experiments/other/params.yaml", "name: small\n"), "small", "small already exists"),
    ("results there", written("runs/small/x.json", "{}"), "small", "runs/small: already exists; choose another name"),
]


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    return fake_study(tmp_path_factory.mktemp("fake") / "project").folder


@pytest.mark.parametrize(("spoil", "name", "message"), [pytest.param(*row[1:], id=row[0]) for row in NAMES])
def test_a_name_that_is_taken_or_invalid_is_refused(fake, tmp_path, capsys, spoil, name, message):
    assert_refused(tmp_path / "root", fake, spoil, message, capsys, "rename", name)


def test_the_trained_cells_of_a_renamed_study_are_up_to_date(tmp_path):
    root = copy_of_finished_project(tmp_path / "project", linked=True)
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


LOCK = """\
schema: '2.0'
stages:
  pretrain@dynamic-0:
    cmd: study pretrain
    outs:
    - path: runs/tiny/dynamic-0/training.json
      hash: md5
      md5: 00000000000000000000000000000000
      size: 1
"""


def interrupt(*_, **__):
    raise KeyboardInterrupt


def refuse(study):
    raise OSError("server is down")


def files(root) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
            and path.suffix != ".lock" or path.name == "dvc.lock"}


@pytest.mark.parametrize("step", ["_unlink_results", "write_atomically", "write_lock", "load_study", "_copy_trials"])
def test_an_interrupted_rename_is_finished_by_the_same_command(fake, tmp_path, monkeypatch, step):
    """Whatever step was the last, the files are then those of a rename that was not interrupted."""
    studies = []
    for name in ("whole", "interrupted"):
        folder = shutil.copytree(fake, tmp_path / name)
        (folder / "dvc.lock").write_text(LOCK)
        studies.append(load_study(folder))
    rename_study(studies[0], "small")
    with monkeypatch.context() as patch:
        patch.setattr(f"study.orchestration.rename.{step}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            rename_study(studies[1], "small")
    study = load_study(studies[1].folder)
    assert name_before(study) == "tiny"
    with pytest.raises(StudyError, match="rename of tiny to small was interrupted; finish it first with `study rename"):
        rename_study(study, "large")
    renamed = rename_study(study, "small")
    assert renamed.settings.name == name_before(renamed) == "small"
    assert files(tmp_path / "interrupted") == files(tmp_path / "whole")
    assert "runs/tiny" not in (renamed.folder / "dvc.lock").read_text()


def test_a_rename_that_mlflow_refuses_is_finished_by_the_same_command(fake, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "project"
    folder = root / "experiments" / "tiny"
    shutil.copytree(fake / "experiments", root / "experiments")
    shutil.copytree(fake, folder, ignore=shutil.ignore_patterns("experiments"))
    params = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(params.replace("root: .\n", "root: ../..\n"))
    (root / "mlflow.db").touch()
    command = ("rename", "small", "--study", str(folder))
    renamed = []
    client = SimpleNamespace(get_experiment_by_name=lambda name: SimpleNamespace(experiment_id=name),
                             rename_experiment=lambda *names: renamed.append(names),
                             search_registered_models=lambda condition: [])
    monkeypatch.setattr("study.tracking.runs.mlflow_client", refuse)
    for _ in range(2):
        assert exit_status(root, *command) == 2
        assert f"server is down'); run `study {' '.join(command)}` again" in capsys.readouterr().err
    monkeypatch.setattr("study.tracking.runs.mlflow_client", lambda study: client)
    assert exit_status(root, *command) == 0
    assert f"renamed tiny to small in {root / 'experiments/small'}; run" in capsys.readouterr().out
    assert renamed == [("tiny", "small")]
    assert not folder.exists()
    assert name_before(load_study(root / "experiments/small")) == "small"
    assert (root / "runs/small/dynamic-0/training.json").exists()


def test_results_made_after_an_interrupted_rename_are_not_overwritten(fake, tmp_path, monkeypatch):
    study = load_study(shutil.copytree(fake, tmp_path / "project"))
    with monkeypatch.context() as patch:
        patch.setattr("study.orchestration.rename.write_atomically", interrupt)
        with pytest.raises(KeyboardInterrupt):
            rename_study(study, "small")
    study.runs.mkdir()
    with pytest.raises(StudyError, match="runs/tiny: was made after the rename to small was interrupted.*elsewhere"):
        rename_study(study, "small")
    assert (study.folder / "runs/small/dynamic-0/training.json").exists()


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


def test_a_search_goes_on_with_the_trials_of_the_old_name(tmp_path, monkeypatch):
    study = tiny_study(tmp_path / "study", lambda text: text.replace("trials: 0", "trials: 2"))
    search(study)
    made = counts(study.storage)
    with monkeypatch.context() as patch:    # interrupted after some of the copying
        patch.setattr("pathlib.Path.unlink", interrupt)
        with pytest.raises(KeyboardInterrupt):
            rename_study(study, "small")
    renamed = rename_study(load_study(study.folder), "small")
    assert not Path(study.storage.removeprefix("sqlite:///")).exists()
    assert counts(renamed.storage) == made == {"dynamic": 2}
    search(renamed)
    assert counts(renamed.storage) == made


@pytest.mark.parametrize("shared", [2, 4, 0])
def test_trials_in_a_shared_storage_are_copied_beside_those_of_a_local_file(tmp_path, monkeypatch, shared):
    """shared: trials of the arm dynamic there; the local file has 3. The arm static has trials in the storage alone."""
    import optuna

    study = tiny_study(tmp_path / "study")
    address = f"sqlite:///{tmp_path}/shared.db"
    study.state.mkdir(exist_ok=True)
    trials = [(study.storage, "tiny/dynamic/x", 3), (address, "tiny/static/y", 1), (address, "other/dynamic/x", 1)]
    for storage, name, count in [*trials, *([(address, "tiny/dynamic/x", shared)] if shared else [])]:
        made = optuna.create_study(storage=storage, study_name=name)
        made.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=count)
    monkeypatch.setenv(STORAGE, address)
    rename_study(study, "small")
    copied = {name: len(optuna.load_study(storage=address, study_name=name).trials)
              for name in optuna.get_all_study_names(address) if name.startswith("small/")}
    assert copied == {"small/dynamic/x": max(3, shared), "small/static/y": 1}
    assert not (study.state / "search-tiny.db").exists()


def test_claims_and_pages_that_name_the_old_study_are_listed(tmp_path):
    from study.orchestration.rename import mentions

    study = fake_study(tmp_path / "project")
    page = study.root / "reports/README.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text("<!-- tiny:begin (written by `study readme`) -->\n")
    assert mentions(study, "tiny") == ["reports/README.md"]
    named = mentions(study, "plateau")
    assert "reports/README.md" not in named
    assert all(re.fullmatch(r"claim \S+ of experiments/claims.yaml", place) for place in named)
    assert named
