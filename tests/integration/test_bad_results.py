"""Unusable results and claims: one line that names the file and the remedy, exit status 2, nothing written."""
from functools import partial

import pytest

from tests.support.bad_input import (
    assert_refused,
    cases,
    edited,
    edited_entry,
    exit_status,
    number_in,
    removed,
    truncated,
    written,
)
from tests.support.fake_results import compare, fake_study

claim = partial(edited_entry, "claims.yaml")
RESULTS = [
    ("compare", "claim of no arm", claim("L2", treatment="all-maks"), "all-maks is not an arm"),
    ("compare", "claim of no metric", claim("L2", metric="nlll"), "L2: metric: Input should be"),
    ("compare", "claim of no kind", claim("L2", claim_type="rumour"), "claim_type: 'rumour' is not one of"),
    ("compare", "claim against nothing", claim("L2", contradicts=["L99"]), "there is no claim L99"),
    ("compare", "no cell", removed("runs/tiny/static-1"), "static-1/evaluation.json: no such file yet"),
    ("compare", "torn result", truncated("runs/tiny/static-1/evaluation.json"), "static-1/evaluation.json: damaged"),
    ("compare", "torn curve", truncated("runs/tiny/static-1/metrics.jsonl", 0.4),
     "static-1/metrics.jsonl: cannot be read"),
    ("compare", "torn sums", truncated("runs/tiny/static-1/evaluation.npz"), "static-1/evaluation.npz: cannot be read"),
    ("compare", "another test set", number_in("runs/tiny/static-1/evaluation.json", "hash", value="ef01"),
     "were scored on different evaluation sets"),
    ("compare", "results from other settings", edited("training", weight_decay=0.5),
     "was trained with training.weight_decay 0.01"),
    ("report", "nothing compared", removed("reports/tiny/tables"), "run `study compare`"),
    ("report", "torn tables", written("reports/tiny/claims.json", "{"), "claims.json: damaged"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Results of a study that nobody trained, compared."""
    root = tmp_path_factory.mktemp("results") / "project"
    compare(fake_study(root))
    return root


@pytest.mark.parametrize(("command", "spoil", "message"), cases(RESULTS))
def test_unusable_results_are_refused(project, tmp_path, capsys, command, spoil, message):
    assert_refused(tmp_path / "root", project, spoil, message, capsys, command)


def test_the_results_are_usable_before_they_are_spoiled(project):
    assert exit_status(project, "compare") == 0
