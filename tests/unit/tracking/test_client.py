"""Questions to MLflow."""
from types import SimpleNamespace

from study.tracking.client import find_runs


class Page(list):
    """One page of an answer of MLflow; token: of the next one."""

    def __init__(self, runs, token):
        super().__init__(runs)
        self.token = token


def test_runs_are_found_on_every_page_of_an_answer():
    asked = []

    def search_runs(experiments, condition, page_token=None):
        asked.append((experiments, condition, page_token))
        return Page([len(asked)], {1: "second", 2: "third"}.get(len(asked)))

    assert find_runs(SimpleNamespace(search_runs=search_runs), "7", kind="cell", arm="static") == [1, 2, 3]
    assert [token for _, _, token in asked] == [None, "second", "third"]
    assert {(*experiments, condition) for experiments, condition, _ in asked} == {
        ("7", "tags.`kind` = 'cell' and tags.`arm` = 'static'")}
