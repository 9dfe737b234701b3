"""Published reports are rebuilt from the committed results byte for byte, without weights, text or trained cells."""
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from study.analysis.claims import load_claims
from study.config.load import load_study
from tests.support.bad_input import exit_status
from tests.support.published import published_studies
from tests.support.studies import ROOT

STUDIES = published_studies()


@pytest.mark.parametrize("name", STUDIES)
def test_a_committed_report_has_the_current_claims(name):
    study = load_study(ROOT / STUDIES[name])
    published = json.loads((study.reports / "claims.json").read_text())
    claims = {key: claim.model_dump(mode="json") for key, claim in load_claims(study).items()}
    assert published.keys() == claims.keys()
    for key, claim in claims.items():
        assert {name: published[key].get(name) for name in claim} == claim


@pytest.mark.parametrize("name", STUDIES)
def test_a_committed_report_is_rebuilt_byte_for_byte(tmp_path, name):
    folder = Path(STUDIES[name])
    parts = ("params.yaml", "discussion.md", "experiments/*.yaml", *(str(folder / part) for part in (
        "params.yaml", "discussion.md", f"runs/{name}", f"reports/{name}")))
    tracked = subprocess.run(["git", "ls-files", *parts], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for file in tracked.split():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, tmp_path / file)
    published = {path.relative_to(tmp_path): path.read_bytes() for path in
                 (tmp_path / folder / "reports" / name).rglob("*") if path.is_file()}
    rendered = [path for path in published if path.name in ("README.md", "index.html") or path.parent.name == "figures"]
    assert folder / "reports" / name / "index.html" in rendered
    assert not list(tmp_path.rglob("*.safetensors"))
    for path in rendered:
        (tmp_path / path).unlink()
    assert exit_status(tmp_path, "report", STUDIES[name]) == 0
    rebuilt = {path.relative_to(tmp_path): path.read_bytes() for path in
               (tmp_path / folder / "reports" / name).rglob("*") if path.is_file()}
    assert rebuilt.keys() == published.keys()
    assert [str(path) for path in published if rebuilt[path] != published[path]] == []
