"""What is said of the pilot runs and of the plateau study elsewhere, against the recorded results."""
import pandas as pd

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


def test_the_pages_state_what_the_plateau_study_measured():
    table = pd.read_csv(ROOT / "reports/plateau/tables/escape.csv").set_index("arm")
    readme, page = (" ".join((ROOT / name).read_text().split()) for name in ("README.md", "docs/plateau.md"))
    assert "stay there seven times as long as the same encoders with rotary positions" in readme
    assert "given seven times as many steps" in page
    assert round(table.loc["dynamic", "median"] / table.loc["rotary-positions", "median"]) == 7
    assert (table.escaped == table.n).all()             # "large encoders leave the plateau; so do the small ones"
    relative = table.loc[["rotary-positions", "relative-positions", "alibi", "rotary-and-absolute"]]
    assert (relative.p_holm < 0.05).all()
    cells = pd.read_csv(ROOT / "reports/plateau/tables/cells.csv").set_index("arm").escape_step
    without = cells.loc[["dynamic", "sinusoidal-positions", "fast-positions"]]
    assert cells.loc[relative.index].max() < without.min()      # "every one of the runs with such positions"
    assert table.loc["fast-positions", "difference"] > 0        # "it does not help to learn ten times faster"
    local, counted = (table.loc[name, "median"] for name in ("local-attention", "count-embeddings"))
    assert 300 < local <= 340 < counted < table.loc["dynamic", "median"]        # "at once", "also falls, but later"


def test_the_doctor_states_what_the_pilots_measured():
    rotary = escapes("baseline")
    assert len(rotary) == 3
    assert PILOTS_ROTARY[0] <= min(rotary) + 5e4
    assert max(rotary) <= PILOTS_ROTARY[1]
    assert escapes("absolute positions") == [None, None, None]
    assert {trial["tokens"] for trial in recorded() if trial["pilot"] == "absolute positions"} == {2_457_600}
    assert PILOTS_ABSOLUTE <= 2_457_600
