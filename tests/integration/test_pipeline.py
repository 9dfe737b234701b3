"""The whole pipeline: `study run` and `dvc repro` on the tiny study in copies of the project."""
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from study.config.create import DVC_CONFIG, DVC_IGNORE
from study.config.load import load_study
from study.orchestration.code_identity import ENTRIES, entries, stage_hashes
from study.orchestration.dvc_commands import planned_cells
from tests.support.project import (
    STUDY,
    copy_of_finished_project,
    copy_of_project,
    dvc,
    forget_cells,
    lose_weights,
    run,
    small_files,
)
from tests.support.studies import ROOT


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A copy in which `study run` has finished; tests undo their changes."""
    return copy_of_finished_project(tmp_path_factory.mktemp("project") / "clone")


def stale(clone: Path) -> list[str]:
    """The stages that DVC would run once the search is up to date, sorted."""
    dvc(clone, "repro", "search")
    return sorted(json.loads(dvc(clone, "status", "--json").stdout))


def test_a_study_runs_from_text_to_report(clone):
    rows = list(csv.DictReader((clone / "reports/tiny/tables/cells.csv").open()))
    assert len(rows) == 2 * len(load_study(clone / "experiments" / "tiny").settings.arms)
    assert {row["status"] for row in rows} == {"finished"}
    for arm in ("dynamic-0", "mlm-nsp-1"):
        scores = json.loads((clone / "runs/tiny" / arm / "evaluation.json").read_text())
        assert scores["mask_only"]["floor_perplexity"] < scores["mask_only"]["perplexity"]
        assert sum(kind["tokens"] for kind in scores["mixed"]["by_kind"].values()) == scores["mixed"]["tokens"]
    assert (clone / "reports/tiny/index.html").exists()
    assert (clone / "reports/tiny/README.md").exists()
    levels = json.loads((clone / "runs/tiny/examples/references.json").read_text())["unigram"]
    assert levels["test"] == pytest.approx(scores["mask_only"]["unigram_perplexity"], rel=1e-9)
    with np.load(clone / "runs/tiny/examples/validation.npz") as validation:
        masked = validation["ids"][validation["mask_only/kind"] > 0]
        brute_force = np.exp(np.mean([validation["unigram"][token] for token in masked]))
    assert levels["validation"] == pytest.approx(brute_force, rel=1e-6)
    assert levels["validation"] != levels["test"]


def test_dvc_repro_has_nothing_to_do_after_study_run(clone):
    assert "up to date" in dvc(clone, "repro").stdout


def test_dvc_repro_in_another_copy_without_git_gives_the_same_bytes(clone, tmp_path):
    other = copy_of_project(tmp_path / "clone", arms="[dynamic]", seeds="[1]")
    shutil.rmtree(other / ".git")
    dvc(other, "config", "--local", "core.no_scm", "true")
    dvc(other, "repro", "report")
    assert (other / "reports/tiny/index.html").exists()
    first, second = small_files(clone), small_files(other)
    second = {name: content for name, content in second.items()
              if not name.startswith("search/") and name != "claims.json"}      # it has the time of the registration
    assert {"dynamic-1/metrics.jsonl", "dynamic-1/probe.json", "dynamic-1/encoder.safetensors",
            "examples/references.json"} <= second.keys()
    assert [name for name in second if first[name] != second[name]] == []


def test_study_run_continues_if_a_cell_fails(clone, tmp_path):
    """And leaves only that cell to the next run."""
    other = copy_of_finished_project(tmp_path / "clone", linked=True)
    forget_cells(other, "dynamic-1", "mlm-nsp-1")
    blocked = other / "runs" / "tiny" / "mlm-nsp-1"
    blocked.write_text("a file where a cell's folder belongs\n")
    process = run(*STUDY, "run", "experiments/tiny", "--jobs", "2", cwd=other, check=False)
    assert process.returncode == 2
    assert "1 of 2 cells failed, first mlm-nsp-1; see" in process.stderr
    blocked.unlink()
    study = load_study(other / "experiments/tiny")
    assert planned_cells(study).names == ["mlm-nsp-1"]
    first, second = small_files(clone), small_files(other)
    assert second.items() <= first.items()
    assert {name.split("/")[0] for name in first.keys() - second.keys()} == {"mlm-nsp-1"}
    lose_weights(other, "dynamic-0")
    plan = run(*STUDY, "plan", "experiments/tiny", "--no-measure", cwd=other).stdout
    assert "2 of 4 cells are stale" in plan
    assert "1 of the 2 stale cells have their results here and lack only their weights; --allow-missing" in plan
    assert "1 of 4 cells are stale" in run(*STUDY, "plan", "experiments/tiny", "--no-measure", "--allow-missing",
                                           cwd=other).stdout
    assert "run: 1 cell was stale" in run(*STUDY, "run", "experiments/tiny", "--allow-missing", cwd=other).stdout
    assert not (study.cell("dynamic", 0) / "encoder.safetensors").exists()
    third = small_files(other)
    assert {name for name in first if third.get(name) != first[name]} == {"dynamic-0/encoder.safetensors",
                                                                          "dynamic-0/heads.safetensors"}
    assert planned_cells(study).to_run(allow_missing=True) == []


def test_a_changed_arm_reruns_only_its_cells(clone):
    arms = clone / "experiments" / "arms.yaml"
    before = arms.read_text()
    changed = yaml.safe_load(before)
    changed["mlm-nsp"]["changes"]["objective"]["sentence_weight"] = 0.5
    arms.write_text(yaml.safe_dump(changed))
    try:
        trained = [stage for stage in stale(clone) if stage.startswith("pretrain")]
        assert trained == ["pretrain@mlm-nsp-0", "pretrain@mlm-nsp-1"]
    finally:
        arms.write_text(before)
        dvc(clone, "repro", "-s", "search")


def test_changed_report_code_trains_nothing(clone):
    page = clone / "study" / "report" / "page.py"
    before = page.read_text()
    page.write_text(before + "\nCHANGED = True\n")
    try:
        stages = stale(clone)
        assert "report" in stages
        assert not [stage for stage in stages if stage.startswith(("pretrain", "evaluate"))]
    finally:
        page.write_text(before)


def test_rewording_code_or_an_arm_runs_neither_the_search_nor_a_cell(clone):
    edits = {"study/training/trainer.py": ("\nfrom __future__", "\n# reworded\nfrom __future__"),
             "experiments/arms.yaml": ("Pre-LN: layer norm before", "Pre-LN: the layer norm before")}
    before = {name: (clone / name).read_text() for name in edits}
    for name, (old, new) in edits.items():
        assert old in before[name]
        (clone / name).write_text(before[name].replace(old, new, 1))
    try:
        dvc(clone, "repro", "-s", "code")
        assert json.loads(dvc(clone, "status", "--json").stdout).keys() <= {"compare", "report", "track"}
    finally:
        for name, text in before.items():
            (clone / name).write_text(text)


def test_an_added_seed_runs_only_the_new_cells(clone):
    params = clone / "experiments" / "tiny" / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    try:
        trained = [stage for stage in stale(clone) if stage.startswith("pretrain")]
        assert trained == sorted(f"pretrain@{arm}-2" for arm in load_study(params.parent).settings.arms)
    finally:
        params.write_text(before)


def test_dvc_shows_metrics_and_plots(clone):
    shown = dvc(clone, "metrics", "show", "--json").stdout
    assert "dynamic" in shown
    dvc(clone, "plots", "show", "-o", "plots")
    page = (clone / "experiments/tiny/plots/index.html").read_text()
    assert "validation perplexity on [MASK]" in page
    assert '"mlm-nsp"' in page


# One fork per stage, since a process imports a module only once. The libraries are imported first, for all forks.
IMPORTED = """
import importlib, json, os, sys
for name in ("torch", "pandas", "mlflow", "optuna", "datasets", "sklearn", "matplotlib"):
    importlib.import_module(name)
for stage, entries in json.loads(sys.argv[1]).items():
    if (child := os.fork()) == 0:
        for name in entries:
            importlib.import_module(name)
        files = [module.__file__ for name, module in sys.modules.items() if name.startswith("study.")]
        print(json.dumps({stage: files}), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """The files that Python loads for the entries of each stage."""
    stages = json.dumps({stage: entries(stage, "synthetic") for stage in ENTRIES})
    lines = run(sys.executable, "-c", IMPORTED, stages, cwd=ROOT).stdout.splitlines()
    return {stage: {Path(name).relative_to(ROOT).as_posix() for name in files}
            for line in lines for stage, files in json.loads(line).items()}


@pytest.mark.parametrize("stage", list(ENTRIES))
def test_the_code_identity_of_a_stage_covers_what_python_imports(imported, stage):
    """The modules in sys.modules after the stage's entries have been imported, apart from the settings' schema."""
    loaded = imported[stage]
    declarations = {name for name in loaded if name.startswith(("study/config/schema/", "study/config/versions.py"))}
    assert declarations
    assert loaded - declarations <= stage_hashes(stage, "synthetic").keys()


def test_every_study_loads_and_has_the_one_pipeline_in_a_dvc_repository():
    for params in (ROOT / "experiments").glob("*/params.yaml"):
        assert (params.parent / ".dvc" / "config").read_text() == DVC_CONFIG
        assert (params.parent / ".dvcignore").read_text() == DVC_IGNORE
        assert (params.parent / ".package").resolve() == ROOT / "study"
        assert load_study(params.parent).settings.name == params.parent.name
        assert (params.parent / "dvc.yaml").read_bytes() == (ROOT / "dvc.yaml").read_bytes()
        assert not (params.parent / "dvc.yaml").is_symlink()


def test_a_new_study_starts_from_another(clone):
    run(*STUDY, "create", "mine", "--from", "experiments/tiny", cwd=clone)
    assert load_study(clone / "experiments" / "mine").settings.name == "mine"
    again = run(*STUDY, "create", "mine", cwd=clone, check=False)
    assert again.returncode == 2
    assert "study mine already exists" in again.stderr
    for place in ("runs", "reports"):
        assert (clone / place / "mine").resolve() == clone / "experiments" / "mine" / place / "mine"
        (clone / place / "mine").unlink()
    shutil.rmtree(clone / "experiments" / "mine")


@pytest.mark.parametrize(("local", "words"), [
    (True, "wikitext-2-v1: no such folder; put train.parquet"),
    (False, "could not be loaded from the hub; put train.parquet")])
def test_a_text_that_cannot_be_loaded_is_one_line(tmp_path, local, words):
    target = copy_of_project(tmp_path / "clone")
    if not local:
        params = target / "experiments/wikitext2/params.yaml"
        params.write_text(re.sub(r"local: \S+", "local: null", params.read_text()))
    process = subprocess.run([sys.executable, "-m", "study", "corpus", "experiments/wikitext2"], cwd=target, text=True,
                             capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(target),
                                                       "HF_HOME": str(tmp_path), "STUDY_DATA": str(tmp_path)})
    assert process.returncode == 2
    lines = process.stderr.strip().splitlines()
    assert len(lines) == 1
    assert "wikitext2" in lines[0]
    assert words in lines[0]


def test_import_of_the_package_is_cheap():
    heavy = "torch", "mlflow", "optuna", "transformers", "datasets", "pandas", "matplotlib"
    code = f"import sys, study, study.cli; print([m for m in {heavy!r} if m in sys.modules])"
    assert run(sys.executable, "-c", code, cwd=ROOT).stdout.strip() == "[]"


def test_dvc_compares_with_a_past_commit(clone, tmp_path):
    """Metrics and curves of a past commit. DVC finds no pipeline there if dvc.yaml is a link."""
    root = tmp_path / "clone"
    shutil.copytree(clone, root, symlinks=True)
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@localhost")
    run(*git, "add", "--all", "--force", "experiments/tiny/runs", "experiments/tiny/reports", cwd=root)
    run(*git, "add", "--all", cwd=root)
    run(*git, "commit", "--quiet", "--message", "first", cwd=root)
    path = root / "reports/tiny/metrics.json"
    metrics = json.loads(path.read_text())
    before, metrics["dynamic"]["nll"] = metrics["dynamic"]["nll"], 1.25
    path.write_text(json.dumps(metrics))
    process = dvc(root, "metrics", "diff", "--json", "HEAD")
    assert "validation failed" not in process.stderr
    differences = json.loads(process.stdout)["reports/tiny/metrics.json"]
    assert differences["dynamic.nll"] == {"old": before, "new": 1.25, "diff": pytest.approx(1.25 - before)}
    dvc(root, "plots", "diff", "HEAD", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots/index.html").read_text()
    assert "reports_tiny_tables_curves_csv" in page
    assert set(re.findall(r'"rev": "(\w+)"', page)) == {"HEAD", "workspace"}
