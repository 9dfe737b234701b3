"""What is said of the pilot runs elsewhere, against the recorded trials."""
from study.data.plateau import escape_step
from study.doctor.log_checks import PILOTS_ABSOLUTE, PILOTS_ROTARY
from tests.benchmarks.pilots import recorded
from tests.support.studies import ROOT


def escapes(name: str) -> list[int | None]:
    """Training tokens until each run of a pilot left the plateau."""
    runs = [trial for trial in recorded() if trial["pilot"] == name]
    level = next(rung["nll"] for rung in runs[0]["ladder"] if rung["name"] == "unigram")
    steps = [escape_step(trial["curve"], level) for trial in runs]
    return [step and step * trial["tokens"] // trial["steps"] for step, trial in zip(steps, runs, strict=True)]


def test_the_pages_state_what_the_pilots_measured():
    steps = [tokens // 4096 for tokens in escapes("baseline")]
    readme, page = (" ".join((ROOT / name).read_text().split()) for name in ("README.md", "docs/plateau.md"))
    assert f"rotary positions left by step {max(steps)}" in readme
    assert f"all three runs leave the plateau between steps {min(steps)} and {max(steps)}" in page
    for text in (readme, page):
        assert "after 600 steps" in text
    for name in ("absolute positions", "all-mask, absolute positions"):
        assert escapes(name) == [None] * 3
        assert {trial["steps"] for trial in recorded() if trial["pilot"] == name} == {600}


def test_the_doctor_states_what_the_pilots_measured():
    rotary = escapes("baseline")
    assert len(rotary) == 3
    assert PILOTS_ROTARY[0] <= min(rotary) + 5e4
    assert max(rotary) <= PILOTS_ROTARY[1]
    assert escapes("absolute positions") == [None, None, None]
    assert {trial["tokens"] for trial in recorded() if trial["pilot"] == "absolute positions"} == {2_457_600}
    assert PILOTS_ABSOLUTE <= 2_457_600
