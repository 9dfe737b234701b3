"""What is said of the pilot runs elsewhere, against the recorded trials."""
from study.data.plateau import escape_step
from study.doctor.log_checks import PILOTS_ABSOLUTE, PILOTS_ROTARY
from tests.benchmarks.pilots import recorded


def escapes(name: str) -> list[int | None]:
    """Training tokens until each run of a pilot left the plateau."""
    runs = [trial for trial in recorded() if trial["pilot"] == name]
    level = next(rung["nll"] for rung in runs[0]["ladder"] if rung["name"] == "unigram")
    steps = [escape_step(trial["curve"], level) for trial in runs]
    return [step and step * trial["tokens"] // trial["steps"] for step, trial in zip(steps, runs, strict=True)]


def test_the_doctor_states_what_the_pilots_measured():
    rotary = escapes("baseline")
    assert len(rotary) == 3
    assert PILOTS_ROTARY[0] <= min(rotary) + 5e4
    assert max(rotary) <= PILOTS_ROTARY[1]
    assert escapes("absolute positions") == [None, None, None]
    assert {trial["tokens"] for trial in recorded() if trial["pilot"] == "absolute positions"} == {2_457_600}
    assert PILOTS_ABSOLUTE <= 2_457_600
