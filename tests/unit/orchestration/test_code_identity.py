"""The code identity of stages: what a stage depends on, and which edits change it."""
import ast
import json
import shutil
from pathlib import Path

import pytest

from study import StudyError
from study.config import schema
from study.config.load import load_study
from study.orchestration.code_identity import (
    DECLARATIONS,
    ENTRIES,
    check_code,
    closure,
    code_folder,
    code_hash,
    entries,
    stage_hashes,
    write_code_identity,
)
from tests.support.minimal_pairs import with_pairs
from tests.support.quick_yaml import dump_yaml, load_yaml
from tests.support.studies import ROOT

STAGES = ("pretrain", "compare", "report")  # stages whose identity the tests of edits compare
KINDS = ("synthetic", "text")
CHECKS = ("study.analysis.current", "study.config.made_with")       # refuse what a stage reads; results do not change


def names(stage: str, kind: str = "text") -> set[str]:
    """Paths of the modules of a stage without packages' `__init__` files, which import nothing."""
    return {name for name in stage_hashes(stage, kind) if not name.endswith("__init__.py")}


def outside(stage: str, *allowed: str) -> set[str]:
    return {name for name in names(stage) if not name.startswith(tuple(f"study/{part}" for part in allowed))}


# ---- what a stage depends on

def test_a_closure_follows_imports_at_the_top_in_functions_and_in_packages(tmp_path):
    files = {"study/__init__.py": "", "study/a.py": "import os\nfrom study.b import f\n",
             "study/b.py": "def f():\n    from study import c\n", "study/c.py": "import study.sub.d\n",
             "study/sub/__init__.py": "from study.sub.e import x\n", "study/sub/d.py": "", "study/sub/e.py": "x = 1\n",
             "study/unused.py": "", "study/config/__init__.py": "",
             "study/config/schema/__init__.py": "from study.unused import y\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {path.relative_to(tmp_path).as_posix() for path in closure(["study.a"], tmp_path)}
    assert found == {"study/__init__.py", "study/a.py", "study/b.py", "study/c.py", "study/sub/__init__.py",
                     "study/sub/d.py", "study/sub/e.py"}
    (tmp_path / "study/c.py").write_text("from study.config.schema import y\n")
    assert tmp_path / "study/unused.py" not in closure(["study.a"], tmp_path)


def test_no_module_uses_relative_imports():
    """A closure would not follow them."""
    for path in (ROOT / "study").rglob("*.py"):
        assert not [node.lineno for node in ast.walk(ast.parse(path.read_text()))
                    if isinstance(node, ast.ImportFrom) and node.level], path


def test_every_stage_of_the_pipeline_depends_on_its_code():
    stages = load_yaml((ROOT / "dvc.yaml").read_text())["stages"]
    assert set(stages) - {"code"} == set(ENTRIES)
    for stage in ENTRIES:
        assert f".state/code/${{name}}/{stage}.txt" in stages[stage]["deps"]
    assert ".state/code/${name}/arms.json" in stages["search"]["deps"]
    assert "${root}/experiments/arms.yaml" not in stages["search"]["deps"]


def test_the_entries_of_a_stage_are_what_its_command_imports():
    """In study/cli, apart from what commands show, log or check with, and from the hashes themselves."""
    bodies = [ast.parse((ROOT / f"study/cli/{name}.py").read_text()).body for name in ("stages", "result_stages")]
    commands = {node.name: node for body in bodies for node in body if isinstance(node, ast.FunctionDef)}
    for stage in ENTRIES:
        imported = {node.module for node in ast.walk(commands[stage]) if isinstance(node, ast.ImportFrom)
                    if not node.module.startswith(("study.cli", "study.orchestration", "study.files", *CHECKS))}
        if stage == "pretrain":             # logs to MLflow and records the claims; neither affects the cell
            imported = {name for name in imported if not name.startswith(("study.tracking", "study.analysis"))}
        hashed = {name.removesuffix(".py").replace("/", ".") for kind in KINDS for name in names(stage, kind)}
        assert {name for name in imported if name.startswith("study.")} <= hashed
        assert {entry for kind in KINDS for entry in entries(stage, kind)} <= imported


def test_training_depends_on_data_and_model_but_not_on_evaluation_code_or_reports():
    assert {"study/training/trainer.py", "study/data/masking.py", "study/model/encoder.py"} <= names("pretrain")
    assert outside("pretrain", "analysis", "report", "tracking", "cli", "orchestration") == names("pretrain")


def test_the_report_depends_on_analysis_alone():
    assert outside("report", "report/", "analysis/", "config/", "files.py", "data/plateau.py",
                   "data/summary_tables.py") == set()
    assert "study/report/templates/report.md" in names("report")


def test_the_evaluation_depends_on_the_sentences_of_the_sense_probe():
    assert "study/evaluation/senses.yaml" in names("evaluate")
    assert "study/evaluation/senses.yaml" not in names("pretrain")


def test_tracking_depends_on_the_template_of_its_page_alone():
    templates = {name for name in names("track") if name.startswith("study/report/templates/")}
    assert templates == {"study/report/templates/mlflow.html"}


def test_comparing_depends_on_no_training_code():
    assert {name for name in names("compare") if name.startswith("study/training/")} == set()


@pytest.mark.parametrize("stage", ENTRIES)
def test_a_study_of_real_text_does_not_depend_on_the_synthetic_language(stage):
    assert {name for name in names(stage, "text") if "synthetic" in name} == set()


def test_a_synthetic_study_depends_on_the_synthetic_language():
    for stage in ("corpus", "examples"):
        assert "study/data/synthetic.py" in names(stage, "synthetic")
    assert "study/data/corpus_text.py" not in names("corpus", "synthetic")


def test_settings_are_declared_and_not_computed():
    """The declarations are no part of an identity. So they may validate, but stages must not call or read them."""
    for path in (ROOT / "study/config/schema").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                assert [part.name for part in node.body
                        if isinstance(part, ast.FunctionDef) and not part.name.startswith("_")] == []
    for path in (ROOT / "study").rglob("*.py"):
        if "config" in path.relative_to(ROOT).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(DECLARATIONS):
                assert node.module == "study.config.schema", path
                assert [alias.name for alias in node.names if not (
                    isinstance(getattr(schema, alias.name), type) or alias.name == "Name")] == [], path


# ---- which edits change it

def reworded(source: str) -> str:
    """The source with other docstrings and error texts, without comments, and in another layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body[0].value = ast.Constant("Reworded.")
        elif (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
              and node.exc.func.id in ("StudyError", "ValueError")):
            node.exc.args = [ast.Constant("reworded")]
    return ast.unparse(tree)


@pytest.fixture
def package(tmp_path) -> Path:
    """A folder with a copy of the package."""
    shutil.copytree(ROOT / "study", tmp_path / "study", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def identities(root: Path) -> dict[str, dict[str, str]]:
    return {stage: stage_hashes(stage, "text", root) for stage in STAGES}


def test_rewording_every_module_changes_no_stage(package):
    before = identities(package)
    for path in (package / "study").rglob("*.py"):
        path.write_text(reworded(path.read_text()))
    assert "Reworded." in (package / "study/training/trainer.py").read_text()
    assert identities(package) == before


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_changing_a_constant_changes_the_stages_that_use_it(package):
    before = identities(package)
    edit(package / "study/analysis/decision_rules.py", "= ", "= 7 + ")
    after = identities(package)
    assert {stage for stage in STAGES if after[stage] != before[stage]} == {"compare", "report"}
    edit(package / "study/training/checkpoint.py", "import json\n", "import json\n\nEVERY = 7\n")
    assert identities(package)["pretrain"] != after["pretrain"]


def test_adding_a_setting_changes_no_stage(package):
    before = identities(package)
    edit(package / "study/config/schema/training.py", "class Training(Settings):\n",
         "class Training(Settings):\n    lookahead: int = 0\n")
    edit(package / "study/config/versions.py", "VERSION = ", "VERSION = 1 + ")
    assert identities(package) == before


def test_the_code_stage_records_hashes_and_what_determines_an_arm(tmp_path):
    study = copied_study(tmp_path)
    write_code_identity(study)
    folder = code_folder(study)
    assert {path.name for path in folder.iterdir()} == {"arms.json", *(f"{stage}.txt" for stage in ENTRIES)}
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    lines = dict(reversed(line.split("  ")) for line in (folder / "pretrain.txt").read_text().splitlines())
    assert lines == stage_hashes("pretrain", "synthetic")
    assert set(json.loads(before["arms.json"])) == set(study.settings.arms)

    arms = load_yaml(study.arms_path.read_text())
    for text in ("description", "source", "source_reports", "factor"):
        arms["static"][text] = "Reworded."
    write_code_identity(copied_study(tmp_path, arms))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    arms["static"]["changes"]["masking"]["dupe_factor"] = 3
    write_code_identity(copied_study(tmp_path, arms))
    assert {name for name in before if (folder / name).read_bytes() != before[name]} == {"arms.json"}


def test_one_draw_of_the_probe_is_what_a_study_without_the_setting_has(tmp_path):
    def evaluate_identity(lines: str) -> bytes:
        study = copied_study(tmp_path, task=lines)
        write_code_identity(study)
        return (code_folder(study) / "evaluate.txt").read_bytes()

    rows = "      train_rows: 40\n"
    before = evaluate_identity(rows)
    assert evaluate_identity(f"{rows}      draws: 1\n") == before
    assert evaluate_identity(f"{rows}      draws: 2\n") != before


def test_text_and_counts_depend_on_minimal_pairs_where_a_study_has_them(tmp_path):
    def stages(change) -> dict[str, bytes]:
        study = copied_study(tmp_path)
        study.params_path.write_text(change(study.params_path.read_text()))
        study = load_study(tmp_path)
        write_code_identity(study)
        return {path.name: path.read_bytes() for path in code_folder(study).iterdir()}

    before, few, more = stages(str), stages(with_pairs), stages(lambda text: with_pairs(text, "5"))
    for first, second in ((before, few), (few, more)):
        assert {name for name in first if first[name] != second[name]} == {"corpus.txt", "examples.txt", "evaluate.txt"}
    assert b"minimal_pairs" not in before["corpus.txt"].replace(b"study/data/minimal_pairs.py", b"")


def copied_study(folder: Path, arms: dict | None = None, task: str = "      train_rows: null\n"):
    """The tiny study's settings in a folder of their own. task: the lines on the training rows of its probe task."""
    (folder / "experiments").mkdir(exist_ok=True)
    arms = arms or load_yaml((ROOT / "experiments/arms.yaml").read_text())
    (folder / "experiments/arms.yaml").write_text(dump_yaml(arms))
    params = (ROOT / "experiments/tiny/params.yaml").read_text().replace("root: ../..", "root: .")
    (folder / "params.yaml").write_text(params.replace("      train_rows: null\n", task, 1))
    return load_study(folder)


def test_a_cell_is_not_computed_with_code_that_dvc_did_not_record(tmp_path):
    study = copied_study(tmp_path)
    check_code(study, "pretrain")           # without a record there is nothing to check
    write_code_identity(study)
    check_code(study, "pretrain")
    path = code_folder(study) / "pretrain.txt"
    recorded = path.read_text()
    digest = stage_hashes("pretrain", "synthetic")["study/training/trainer.py"]
    path.write_text(recorded.replace(digest, "0" * 64))
    with pytest.raises(StudyError, match=r"study/training/trainer\.py: changed since the stage `code` ran"):
        check_code(study, "pretrain")
    path.write_text("".join(line for line in recorded.splitlines(keepends=True) if "trainer" not in line))
    with pytest.raises(StudyError, match=r"study/training/trainer\.py: changed"):
        check_code(study, "pretrain")


def test_code_hash_depends_on_the_stage_and_on_torch(study, monkeypatch):
    first = code_hash(study, "pretrain")
    assert len(first) == 16
    assert code_hash(study, "pretrain") == first
    assert code_hash(study, "search") != first
    monkeypatch.setattr("study.orchestration.code_identity.version", lambda package: "0.0")
    assert code_hash(study, "pretrain") != first
