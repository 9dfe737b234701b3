"""Every arm of arms.yaml from its settings to the report: two steps of training, evaluation, probe."""
import json
import math
import re
import shutil

import pytest

from study.analysis.questions import question_of_factor
from study.analysis.results import read_records
from study.config.load import load_study
from study.evaluation.baselines import write_baselines
from study.evaluation.evaluate import evaluate
from study.evaluation.probe import probe
from study.report.page import write_report
from study.training.pretrain import cell_settings, pretrain
from study.training.search import search
from tests.support.arms import distinct_arms
from tests.support.fake_results import compare
from tests.support.quick_yaml import dump_yaml, load_yaml
from tests.support.studies import ROOT, tiny_study

TINY = load_study(ROOT / "experiments" / "tiny")
# Arms that start from another one do so at a step that the tiny study does not reach. Here, they do after the first.
BRANCHED = [name for name, arm in TINY.arms.items() if arm.branch is not None]
ARMS = [*TINY.settings.arms, *BRANCHED]
# Arms with the same encoder have the same probe. It is run for the first of them; the others get its files.
PROBED = distinct_arms(lambda config: (config.model, config.examples, config.objective.token_objective,
                                       config.training.steps == 0))


def two_steps(params: str) -> str:
    """The tiny study with two steps and a probe that costs little."""
    for key, value in {"steps": 2, "train_sizes": "[20]", "regularization": "[1.0]",
                       "probe_documents": "{train: 60, test: 40}"}.items():
        params = re.sub(rf"^  {key}: .*$", f"  {key}: {value}", params, count=1, flags=re.M)
    return params


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Every arm at one seed, with the learning rates of the search; nothing is trained yet."""
    study = tiny_study(tmp_path_factory.mktemp("arms") / "study", two_steps)
    arms = load_yaml(study.arms_path.read_text())
    for size in ("steps", "batch_size"):    # of the literal recipe: too large for a test
        del arms["d2l"]["changes"]["training"][size]
    for name in BRANCHED:
        arms[name]["from"]["step"] = 1
    study.arms_path.write_text(dump_yaml(arms))
    params = study.params_path.read_text()
    study.params_path.write_text(params.replace("arms: [dynamic,", f"arms: [dynamic, {', '.join(BRANCHED)},", 1))
    study = load_study(study.folder)
    write_baselines(study, study.runs / "examples")
    search(study)
    return study


def run_cell(study, arm: str) -> tuple[dict, dict]:
    """Trains, evaluates and probes the arm at seed 0. Returns the results of training and evaluation."""
    training, evaluation = pretrain(study, arm, 0), evaluate(study, arm, 0)
    if arm in PROBED:
        probe(study, arm, 0)
    else:
        for name in ("probe.json", "probe.npz"):
            shutil.copy(study.cell("dynamic", 0) / name, study.cell(arm, 0))
    return training, evaluation


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_is_trained_evaluated_and_probed(small, arm):
    config, folder = cell_settings(small, arm), small.cell(arm, 0)
    training, evaluation = run_cell(small, arm)
    validation = [r["validation_nll"] for r in read_records(folder / "metrics.jsonl") if "validation_nll" in r]
    vocabulary = json.loads((small.runs / "examples/references.json").read_text())["vocabulary"] + 5
    assert training["steps"] == config.training.steps
    if config.objective.token_objective == "mlm" and training["steps"]:
        assert (training["status"] == "finished") == (validation[-1] < math.log(vocabulary))
    if config.objective.token_objective == "causal":
        assert evaluation["mask_only"] is None
    else:
        for masks in ("mask_only", "mask_only_pairs"):
            assert evaluation[masks]["nll"] > evaluation[masks]["floor_nll"]
    assert (evaluation["nsp"] is None) == (config.objective.sentence_objective == "none")
    for scores in filter(None, (evaluation["nsp"], evaluation["sop"])):
        assert scores["accuracy"] < scores["ceiling"] + 3 * math.sqrt(0.25 / scores["pairs"])
    if not config.training.steps:
        scores = json.loads((folder / "probe.json").read_text())["topic"]
        assert scores["mean"]["accuracy"] == scores["mean"]["untrained_accuracy"]
    inputs = json.loads((folder / "inputs.json").read_text())
    if training["steps"]:
        assert inputs["shares"]["padding"] == pytest.approx(training["padding_share"], abs=0.2)
    if config.training.curriculum is None:
        assert inputs["views_per_example"] == pytest.approx(training["rows_seen"] / inputs["examples"])
    assert len(inputs["line"]["passes"]) == 2


@pytest.mark.parametrize("arm", BRANCHED)
def test_an_arm_that_starts_from_another_one_differs_from_it_only_afterwards(small, arm):
    names = (small.arms[arm].branch.arm, arm)
    for name in names:
        if not (small.cell(name, 0) / "metrics.jsonl").exists():
            pretrain(small, name, 0)
    before, own = (read_records(small.cell(name, 0) / "metrics.jsonl") for name in names)
    assert [record["step"] for record in own] == [0, 1, 2]
    assert own[:2] == before[:2]
    assert own[2] != before[2]
    shares = json.loads((small.cell(arm, 0) / "inputs.json").read_text())["shares"]
    assert shares["mask"] == pytest.approx(cell_settings(small, arm).masking.mask, abs=0.1)


def test_one_report_has_every_arm(small):
    for arm in small.settings.arms:
        if not (small.cell(arm, 0) / "probe.json").exists():      # this test alone was asked for
            run_cell(small, arm)
    compare(small)
    page = write_report(small).read_text()
    for name in small.settings.arms:
        assert name in page
        assert question_of_factor(small.arms[name].factor) in page.lower()
    assert "[MASK]" in page
    assert (small.reports / "figures/layers.svg").exists()
    assert ",sizes," in (small.reports / "tables/probes.csv").read_text()


def test_a_diverged_cell_goes_through_every_stage(small):
    """Weights that are not finite are evaluated, probed, compared and reported; no result file has NaN or Infinity."""
    diverging = small.model_copy(update={"settings": small.settings.model_copy(update={
        "name": "diverging", "arms": ["dynamic", "no-warmup"], "seeds": [1, 2]})})
    shutil.copytree(small.runs, diverging.runs, ignore=shutil.ignore_patterns("*-0"))
    path = diverging.runs / "search" / "no-warmup.yaml"
    path.write_text(re.sub(r"learning_rate: .*", "learning_rate: 1.0e+9", path.read_text()))
    (diverging.runs / "search" / "best.yaml").write_text("dynamic: {}\nno-warmup: {training.learning_rate: 1.0e+9}\n")
    for arm, seed in diverging.cells:
        training = pretrain(diverging, arm, seed)
        assert training["status"] == ("diverged" if arm == "no-warmup" else "finished")
        evaluate(diverging, arm, seed)
        probe(diverging, arm, seed)
        for file in diverging.cell(arm, seed).glob("*.json*"):
            assert "NaN" not in file.read_text()
            assert "Infinity" not in file.read_text()
    compare(diverging)
    assert "2 diverged" in write_report(diverging).read_text()
