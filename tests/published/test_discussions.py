"""What the discussions of several studies say, against the result files."""
import json
from collections import Counter

import pandas as pd
import pytest

from study.config.load import load_study
from study.report.discussion import cited_claims
from tests.support.published import published_studies
from tests.support.studies import ROOT

STUDIES = published_studies()


def table(study: str, name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / STUDIES[study] / "reports" / study / "tables" / f"{name}.csv")


@pytest.mark.parametrize("name", STUDIES)
def test_every_reversed_or_split_outcome_of_runs_is_discussed(name):
    claims = table(name, "claims")
    surprising = claims[claims.outcome.isin(["reversed", "split"]) & (claims.n > 0)]
    assert set(surprising.claim) - cited_claims(load_study(ROOT / STUDIES[name])) == set()


@pytest.mark.parametrize(("name", "task", "better"), [("quick", "topic", 8), ("wikitext2", "ag-news", 5),
                                                      ("finetuning", "ag-news", 5), ("variance", "topic", 19)])
def test_mean_pooling_is_more_accurate_than_cls_at_every_seed(name, task, better):
    """In variance, at all seeds but one."""
    cells = table(name, "cells").query("arm == 'dynamic'")
    gap = cells[f"{task}_mean_accuracy"] - cells[f"{task}_cls_accuracy"]
    assert (gap > 0).sum() == better >= len(cells) - (name == "variance")
    if name == "wikitext2":                 # "before training too, and training widens the gap"
        before = cells[f"{task}_mean_untrained_accuracy"] - cells[f"{task}_cls_untrained_accuracy"]
        assert (before > 0).all()
        assert gap.mean() > before.mean()


def test_with_next_sentence_prediction_cls_and_mean_are_about_equally_accurate():
    cells = table("pairs", "cells").query("arm == 'mlm-nsp'")
    assert abs(cells["topic_mean_accuracy"] - cells["topic_cls_accuracy"]).max() < 0.02


def test_the_tutorials_own_probe_comes_closer_to_its_band_than_a_tuned_one():
    claims = table("wikitext2", "claims").set_index("claim").effect
    assert 0 < claims["S0.8"] - 0.4 < 0.01
    assert claims["S0.8b"] - 0.4 > 2 * (claims["S0.8"] - 0.4)


def test_fine_tuning_on_ag_news_always_chose_the_highest_rate():
    """And on SST-2 with the fewest rows, other rates more often."""
    highest = load_study(ROOT / STUDIES["finetuning"]).settings.finetune.recipe.learning_rates[-1]
    chosen = {}
    for path in (ROOT / "runs/finetuning").glob("dynamic-*/finetune.json"):
        for task, results in json.loads(path.read_text()).items():
            for rows, result in results["trained"].items():
                chosen.setdefault((task, rows), Counter()).update(run["rate"] == highest for run in result["runs"])
    assert chosen["ag-news", "100"] == chosen["ag-news", "1000"] == Counter({True: 15})
    assert chosen["sst2", "100"][False] > chosen["sst2", "100"][True]


def test_with_rotary_positions_all_runs_of_the_plateau_study_leave_within_the_limit_of_a_tutorial():
    study = load_study(ROOT / STUDIES["plateau"])
    tokens = study.settings.training.batch_size * study.settings.examples.max_seq_length
    assert tokens == 4096
    cells = table("plateau", "cells").query("arm == 'rotary-positions'")
    assert (cells.escape_step * tokens).max() < 4_096_000 / 2       # "well within that limit"
    ends = table("plateau", "arms").set_index("arm").nll_mean
    assert ends["local-attention"] < ends["count-embeddings"] < ends["dynamic"]
