"""What is said of the plateau study elsewhere, against its results."""
import pandas as pd

from study.doctor.log_checks import ABSOLUTE_TOKENS, ROTARY_TOKENS, absolute_positions
from tests.support.studies import ROOT


def test_the_pages_state_what_the_plateau_study_measured():
    table = pd.read_csv(ROOT / "reports/plateau/tables/escape.csv").set_index("arm")
    readme, page = (" ".join((ROOT / name).read_text().split()) for name in ("README.md", "docs/plateau.md"))
    assert "stay there seven times as long as the same encoders with rotary positions" in readme
    assert "given seven times as many steps and a warm-up" in page
    assert "stayed on it seven times as long" in absolute_positions().detail
    assert "needed seven times as many steps for this" in " ".join((ROOT / "docs/doctor.md").read_text().split())
    assert round(table.loc["dynamic", "median"] / table.loc["rotary-positions", "median"]) == 7
    assert table.loc["dynamic", "escaped"] == table.loc["dynamic", "n"] == 5    # "so do the small ones here"
    assert table.loc["no-warmup", "escaped"] == 0
    assert table.loc["no-warmup", "p_holm"] < 0.05
    assert table.loc["pre-ln", "p_holm"] >= 0.05        # "no difference that five seeds can show"
    relative = table.loc[["rotary-positions", "relative-positions", "alibi", "rotary-and-absolute"]]
    assert (relative.p_holm < 0.05).all()
    cells = pd.read_csv(ROOT / "reports/plateau/tables/cells.csv").set_index("arm").escape_step
    without = cells.loc[["dynamic", "sinusoidal-positions", "fast-positions"]]
    assert cells.loc[relative.index].max() < without.min()      # "every one of the runs with such positions"
    assert table.loc["fast-positions", "difference"] > 0        # "it does not help to learn ten times faster"
    local, counted = (table.loc[name, "median"] for name in ("local-attention", "count-embeddings"))
    assert 300 < local <= 340 < counted < table.loc["dynamic", "median"]        # "at once", "also falls, but later"


def test_the_doctor_states_what_the_plateau_study_measured():
    cells = pd.read_csv(ROOT / "reports/plateau/tables/cells.csv").set_index("arm").escape_step
    for arm, (low, high) in (("rotary-positions", ROTARY_TOKENS), ("dynamic", ABSOLUTE_TOKENS)):
        tokens = cells.loc[arm] * 4096
        assert low <= tokens.min() < low + 1e5
        assert high - 1e5 < tokens.max() <= high
