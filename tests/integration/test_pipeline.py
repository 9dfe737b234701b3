"""The pipeline as people run it: `dvc repro` on the tiny study, in a clone of its own."""
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

from study.config.load import load_study
from study.orchestration.code_identity import ENTRIES, used
from tests.support.project import copy_of_project, run, small_files
from tests.support.studies import ROOT


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    target = copy_of_project(tmp_path_factory.mktemp("project") / "clone")
    run("dvc", "repro", "experiments/tiny/dvc.yaml", cwd=target)
    return target


def stale(clone: Path) -> list[str]:
    """The stages that DVC would run, after what the search stage has to say; sorted."""
    run("dvc", "repro", "experiments/tiny/dvc.yaml:search", cwd=clone)
    found = json.loads(run("dvc", "status", "--json", "experiments/tiny/dvc.yaml", cwd=clone).stdout)
    return sorted(name.removeprefix("experiments/tiny/dvc.yaml:") for name in found)


def test_whole_study_to_its_report(clone):
    rows = list(csv.DictReader((clone / "reports/tiny/tables/cells.csv").open()))
    assert len(rows) == 2 * len(load_study(clone / "experiments" / "tiny").settings.arms)
    assert {row["status"] for row in rows} == {"finished"}
    for arm in ("dynamic-0", "mlm-nsp-1"):
        found = json.loads((clone / "runs/tiny" / arm / "evaluation.json").read_text())
        assert found["mask_only"]["floor_perplexity"] < found["mask_only"]["perplexity"]
        assert sum(kind["tokens"] for kind in found["mixed"]["by_kind"].values()) == found["mixed"]["tokens"]
    assert (clone / "reports/tiny/index.html").exists()
    assert (clone / "reports/tiny/README.md").exists()
    levels = json.loads((clone / "runs/tiny/examples/references.json").read_text())["unigram"]
    assert levels["test"] == pytest.approx(found["mask_only"]["unigram_perplexity"], rel=1e-9)
    with np.load(clone / "runs/tiny/examples/validation.npz") as validation:
        masked = validation["ids"][validation["mask_only/kind"] > 0]
        brute_force = np.exp(np.mean([validation["unigram"][token] for token in masked]))
    assert levels["validation"] == pytest.approx(brute_force, rel=1e-6)
    assert levels["validation"] != levels["test"]


def test_second_repro_runs_nothing_and_two_clones_are_equal(clone, tmp_path):
    assert "up to date" in run("dvc", "repro", "experiments/tiny/dvc.yaml", cwd=clone).stdout
    other = copy_of_project(tmp_path / "clone", arms="[dynamic, mlm-nsp]", seeds="[1]")
    run("dvc", "repro", "experiments/tiny/dvc.yaml", cwd=other)
    first, second = small_files(clone), small_files(other)
    second = {name: content for name, content in second.items() if not name.startswith("search/")}
    assert {"dynamic-1/metrics.jsonl", "mlm-nsp-1/probe.json", "mlm-nsp-1/encoder.safetensors"} <= second.keys()
    assert [name for name in second if first[name] != second[name]] == []


def test_cells_side_by_side_record_what_dvc_repro_does(clone, tmp_path):
    """`study run` gives the same bytes, leaves nothing for DVC to do, and goes past a cell that fails."""
    other = copy_of_project(tmp_path / "clone", arms="[dynamic, mlm-nsp]", seeds="[1]")
    blocked = other / "runs" / "tiny" / "mlm-nsp-1"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where a cell's folder belongs\n")
    done = run(sys.executable, "-m", "study", "run", "experiments/tiny", "--jobs", "2", cwd=other, check=False)
    assert done.returncode == 2
    assert "1 of 2 cells failed; the first is mlm-nsp-1: see" in done.stderr
    assert (other / "runs/tiny/dynamic-1/probe.json").exists()
    blocked.unlink()
    done = run(sys.executable, "-m", "study", "run", "experiments/tiny", "--jobs", "2", cwd=other)
    assert "run: 1 cells were stale" in done.stdout
    first, second = small_files(clone), small_files(other)
    second = {name: content for name, content in second.items() if not name.startswith("search/")}
    assert [name for name in second if name in first and first[name] != second[name]] == []
    assert {"dynamic-1/encoder.safetensors", "mlm-nsp-1/probe.json"} <= second.keys()
    assert "up to date" in run("dvc", "repro", "experiments/tiny/dvc.yaml", cwd=other).stdout


def test_a_changed_arm_reruns_its_cells_alone(clone):
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
        run("dvc", "repro", "-s", "experiments/tiny/dvc.yaml:search", cwd=clone)


def test_changed_report_code_trains_nothing(clone):
    page = clone / "study" / "report" / "page.py"
    before = page.read_text()
    page.write_text(before + "\n# changed\n")
    try:
        ran = stale(clone)
        assert "report" in ran
        assert not [stage for stage in ran if stage.startswith(("pretrain", "evaluate", "probe"))]
    finally:
        page.write_text(before)


def test_an_added_seed_runs_the_new_cells_alone(clone):
    params = clone / "experiments" / "tiny" / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    try:
        trained = [stage for stage in stale(clone) if stage.startswith("pretrain")]
        assert trained == sorted(f"pretrain@{arm}-2" for arm in load_study(params.parent).settings.arms)
    finally:
        params.write_text(before)


def test_dvc_shows_metrics_and_plots(clone):
    shown = run("dvc", "metrics", "show", "--json", cwd=clone / "experiments" / "tiny").stdout
    assert "dynamic" in shown
    run("dvc", "plots", "show", "-o", "plots", cwd=clone / "experiments" / "tiny")
    page = (clone / "experiments/tiny/plots/index.html").read_text()
    assert "validation perplexity on [MASK]" in page
    assert '"all-mask"' in page


def test_a_stage_depends_on_the_modules_that_it_imports():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert set(stages) - {"code"} == set(ENTRIES)
    for stage in ENTRIES:
        assert f"${{root}}/.state/code/${{study}}/{stage}.txt" in stages[stage]["deps"]
    trained = {str(path.relative_to(ROOT)) for path in used("pretrain")}
    assert {"study/training/trainer.py", "study/data/masking.py", "study/model/encoder.py"} <= trained
    assert not [name for name in trained if name.startswith(("study/report", "study/analysis"))]
    assert ROOT / "study/report/templates/report.html" in used("report")


@pytest.mark.parametrize("stage", list(ENTRIES))
def test_what_a_stage_imports_is_what_it_is_said_to_use(stage):
    """Against Python itself: the modules that stand in sys.modules when the stage's entries are imported."""
    code = (f"import sys, importlib; [importlib.import_module(name) for name in {ENTRIES[stage]!r}]; "
            "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('study.')))")
    loaded = {Path(name) for name in run(sys.executable, "-c", code, cwd=ROOT).stdout.split()}
    assert {path for path in loaded if path.name != "__init__.py"} <= set(used(stage))


def test_every_study_loads_and_has_the_one_pipeline():
    for params in (ROOT / "experiments").glob("*/params.yaml"):
        assert load_study(params.parent).settings.name == params.parent.name
        assert (params.parent / "dvc.yaml").read_bytes() == (ROOT / "dvc.yaml").read_bytes()
        assert not (params.parent / "dvc.yaml").is_symlink()


def test_a_new_study_starts_from_another(clone):
    run(sys.executable, "-m", "study", "create", "mine", "--from", "experiments/tiny", cwd=clone)
    assert load_study(clone / "experiments" / "mine").settings.name == "mine"
    again = run(sys.executable, "-m", "study", "create", "mine", cwd=clone, check=False)
    assert again.returncode == 2
    assert "there is a study mine already" in again.stderr
    shutil.rmtree(clone / "experiments" / "mine")


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path):
    target = copy_of_project(tmp_path / "clone")
    done = subprocess.run([sys.executable, "-m", "study", "corpus", "experiments/wikitext2"], cwd=target, text=True,
                          capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(target),
                                                    "HF_HOME": str(tmp_path), "STUDY_DATA": str(tmp_path)})
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert "wikitext2" in lines[0]
    assert "train.parquet" in lines[0]


def test_without_git_dvc_runs_too(tmp_path):
    target = copy_of_project(tmp_path / "clone")
    shutil.rmtree(target / ".git")
    run("dvc", "config", "--local", "core.no_scm", "true", cwd=target)
    run("dvc", "repro", "experiments/tiny/dvc.yaml:corpus", cwd=target)
    assert (target / "runs/tiny/corpus/manifest.json").exists()


def test_import_of_the_package_is_cheap():
    heavy = "torch", "mlflow", "optuna", "transformers", "datasets", "pandas", "matplotlib"
    code = f"import sys, study, study.cli; print([m for m in {heavy!r} if m in sys.modules])"
    assert run(sys.executable, "-c", code, cwd=ROOT).stdout.strip() == "[]"


def test_dvc_compares_with_a_past_commit(clone, tmp_path):
    """Metrics and curves as they were; a link in the place of dvc.yaml would be no pipeline in a past commit."""
    root = tmp_path / "clone"
    shutil.copytree(clone, root, symlinks=True)
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@localhost")
    run(*git, "add", "--all", "--force", "runs/tiny", "reports/tiny", cwd=root)
    run(*git, "add", "--all", cwd=root)
    run(*git, "commit", "--quiet", "--message", "first", cwd=root)
    path = root / "reports/tiny/metrics.json"
    metrics = json.loads(path.read_text())
    before, metrics["dynamic"]["nll"] = metrics["dynamic"]["nll"], 1.25
    path.write_text(json.dumps(metrics))
    said = run("dvc", "metrics", "diff", "--json", "HEAD", cwd=root / "experiments/tiny")
    assert "validation failed" not in said.stderr
    found = json.loads(said.stdout)["../../reports/tiny/metrics.json"]
    assert found["dynamic.nll"] == {"old": before, "new": 1.25, "diff": pytest.approx(1.25 - before)}
    said = run("dvc", "plots", "diff", "HEAD", "--out", str(tmp_path / "plots"), cwd=root / "experiments/tiny")
    page = (tmp_path / "plots/index.html").read_text()
    assert "reports_tiny_tables_curves_csv" in page
    assert set(re.findall(r'"rev": "(\w+)"', page)) == {"HEAD", "workspace"}
