"""Arms that start from another arm in tables and report."""
import re

import pytest

from study import StudyError
from study.analysis.current import check_comparable
from study.analysis.results import StudyResults
from study.config.arms import resolve_with
from study.config.fingerprint import settings_yaml
from study.config.load import load_study
from study.config.schema import From
from study.report.page import write_report
from tests.support.fake_results import TUNED, compare, fake_cell, fake_study
from tests.support.quick_yaml import dump_yaml, load_yaml

TUNED_EARLIER = {"training.learning_rate": 0.003}


@pytest.fixture
def study(tmp_path):
    """A study with the arms dynamic, static and late. The last starts from dynamic."""
    fake_study(tmp_path)
    arms = load_yaml((tmp_path / "experiments/arms.yaml").read_text())
    arms["late"] = arms["all-mask"] | {"from": {"arm": "dynamic", "step": 6}}
    (tmp_path / "experiments/arms.yaml").write_text(dump_yaml(arms))
    params = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params.replace("arms: [dynamic, static]", "arms: [dynamic, static, late]"))
    study = load_study(tmp_path)
    best = {"dynamic": TUNED_EARLIER, "static": TUNED, "late": TUNED}
    (study.runs / "search/best.yaml").write_text(dump_yaml({arm: dict(values) for arm, values in best.items()}))
    for seed in study.settings.seeds:
        fake_cell(study, "late", seed, 2.1)
        for arm in study.settings.arms:
            (study.cell(arm, seed) / "settings.yaml").write_bytes(settings_yaml(resolve_with(study, arm, best)))
    return study


def test_a_cell_must_have_the_settings_of_both_arms_and_the_step(study):
    check_comparable(StudyResults(study))
    mix = {"masking": {"mask": 0.9, "random": 0.1, "keep": 0.0}}
    for values, key, old, new in (({"branch": From(arm="dynamic", step=7)}, "branch.step", 6, 7),
                                  ({"changes": mix}, "masking.mask", 1.0, 0.9)):
        changed = study.arms | {"late": study.arms["late"].model_copy(update=values)}
        message = f"late-0 was trained with {key} {old}, but the study's settings now give {new};"
        with pytest.raises(StudyError, match=re.escape(message)):
            check_comparable(StudyResults(study.model_copy(update={"arms": changed})))
    (study.runs / "search/best.yaml").write_text(dump_yaml({"dynamic": TUNED, "static": TUNED, "late": TUNED}))
    with pytest.raises(StudyError, match=r"training\.learning_rate 0\.003, but .* now give 0\.004"):
        check_comparable(StudyResults(study))


def test_the_report_says_what_an_arm_starts_from(study, undrawn):
    compare(study)
    write_report(study)
    text = (study.reports / "README.md").read_text()
    assert re.search(r"^\| late \| [^|]+\. Starts as dynamic up to step 6\. \| dynamic \|", text, re.M)
    assert text.count("Starts as") == 1
