"""How numbers are shown: with units only where these are units, learning rates as rates and ratios, one thing in the
singular."""
import math
from types import SimpleNamespace

import pandas as pd
import pytest

from study.cli import runs
from study.cli.console import show_claims
from study.report.features import layer_figure
from study.report.formatting import in_unit, plural, render, unit_of
from study.tracking.views import experiment_tags
from tests.support.fake_results import fake_study, write_params


def numbers(effect, low, high):
    return {"effect": effect, "low": low, "high": high}


@pytest.mark.parametrize(("metric", "values", "signed", "text"), [
    ("finetuned_rate", (math.log10(2e-3), -2.9, -2.5), False, "0.002 [0.0013, 0.0032]"),
    ("finetuned_rate", (math.log10(2e-5), -5, -4.5), False, "2e-05 [1e-05, 3.2e-05]"),
    ("finetuned_rate", (math.log10(2), 0, 1), True, "×2.00 [×1.00, ×10.00]"),           # between two arms
    ("finetuned_rate_small", (math.log10(0.5), -1, 0), True, "×0.50 [×0.10, ×1.00]"),
    ("finetuned_rate_small", (0.0, 0.0, 0.0), True, "×1.00, the same at every seed"),
    ("probe_accuracy", (0.01, -0.01, 0.03), True, "+1.0 points [-1.0, +3.0]"),
    ("nll", (2.5, 2.25, 2.75), False, "2.500 nats [2.250, 2.750]"),
    ("plane_share", (0.1, 0.04, 0.16), False, "0.10 [0.04, 0.16]"),
    ("sense_gain", (0.00001, -0.0001, 0.0001), True, "+0.0000 [-0.0001, +0.0001]"),
    ("largest_gradient_norm", (12.0, 10.0, 14.0), False, "12.00 [10.00, 14.00]"),
    ("loss_spikes", (-2.0, -2.0, -2.0), True, "-2.0, the same at every seed"),
    ("escape_step", (1.0, -30.0, 32.0), True, "+1 step [-30, +32]"),
])
def test_a_number_is_shown_in_its_unit(metric, values, signed, text):
    assert in_unit(metric, numbers(*values), signed) == text


@pytest.mark.parametrize(("metric", "value", "text"), [
    ("finetuned_rate", math.log10(1.5), "×1.50"), ("finetuned_rate_small", 0.15, "×1.41"),
    ("probe_accuracy", 0.02, "2 points"), ("nll", 0.05, "0.05 nats"), (None, 0.5, "0.5"),
    ("probe_accuracy", 0.01, "1 point"), ("probe_accuracy", 0.015, "1.5 points"), ("nll", 1.0, "1 nat"),
    ("escape_step", 1, "1 step"), ("escape_tokens", 1, "1 token"), ("plane_share", 0.5, "0.5"),
    ("sense_gap", 0.01, "0.01"), ("largest_gradient_norm", 1.0, "1"), ("loss_spikes", 2.0, "2")])
def test_a_margin_is_a_difference_in_the_unit(metric, value, text):
    assert unit_of(metric).limit(value) == text


@pytest.mark.parametrize(("metric", "text"), [
    ("finetuned_rate", "×2.00 [×1.00, ×10.00]"), ("loss_spikes", "0.3 [0.0, 1.0]"),
    ("nll", "0.301 nats [0.000, 1.000]")])
def test_a_spread_is_a_difference_without_a_sign(metric, text):
    assert in_unit(metric, numbers(math.log10(2), 0, 1), spread=True) == text


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 runs"), (1, "1 run"), (1.0, "1 run"), (2, "2 runs"), (1000, "1,000 runs")])
def test_one_thing_is_in_the_singular(count, text):
    assert plural(count, "run") == text


STUDY = SimpleNamespace(
    name="s", seeds=[0], baseline="dynamic", training=SimpleNamespace(steps=1),
    corpus=SimpleNamespace(kind="synthetic"), model=SimpleNamespace(num_hidden_layers=1, hidden_size=64))


@pytest.mark.parametrize(("arms", "seeds", "text"), [
    (1, 1, "1 arm of an encoder with 1 layer of width 64 on the built-in synthetic language, 1 seed ([report]"),
    (1, 2, "on the built-in synthetic language, 2 seeds ([report]"), (3, 1, "language, 1 seed each ([report]")])
def test_the_findings_count_arms_and_seeds(arms, seeds, text):
    study = SimpleNamespace(**vars(STUDY) | {"seeds": list(range(seeds))})
    assert text in render("findings.md", {"study": study, "arms": ["a"] * arms, "place": "s", "findings": [],
                                          "alt": "", "figure": ""})


@pytest.mark.parametrize(("untested", "in_report", "in_documents"), [
    (1, "One more is not testable here", "; 1 more is not testable in this study."),
    (12, "Another 12 are not testable here", "; 12 more are not testable in this study.")])
def test_claims_that_are_not_testable_are_counted(untested, in_report, in_documents):
    counts = {"runs": {"holds": 1}, "untested": untested}
    entry = SimpleNamespace(date="2026-11-26", commit="", claims={"L1": {}}, hash="ab", amended="")
    text = render("registration.md", {"counts": counts, "registrations": [entry], "stricter": [], "exploratory": [],
                                      "waiting": [], "sources": {}})
    assert in_report in text
    assert "test 1 claim: holds 1." in text
    assert "1 claim, hash ab" in text
    text = render("verdicts.md", {"study": STUDY, "counts": counts, "questions": {}})
    assert in_documents in text
    assert "Model: 1 layer of width 64, 1 step." in text


@pytest.mark.parametrize(("epochs", "seeds", "text", "repeats"), [
    (1, 1, "trained for 1 epoch, with", "Each cell has 1 run per number of rows.\n"),
    (3, 2, "trained for 3 epochs, with", "Each cell has 2 runs per number of rows, which differ in the new layer")])
def test_the_recipe_of_fine_tuning_counts_epochs_and_runs(epochs, seeds, text, repeats):
    recipe = {"pooling": "cls", "epochs": epochs, "learning_rates": [0.1], "validation_fraction": 0.2, "seeds": seeds}
    section = render("finetuned.md", {"finetuned": {"recipe": recipe, "figure": None, "tasks": [], "variants": []}})
    assert text in section
    assert repeats in section


def row(name: str, claim_type: str, outcome: str) -> dict:
    return {"id": name, "claim_type": claim_type, "outcome": outcome, "shown": outcome, "statement": "All is better.",
            "question": "corruption", "measured": "", "fidelity": "proxy"}


@pytest.mark.parametrize(("count", "text"), [
    (1, "1 claim tested by training runs; 1 check of code and arithmetic and 1 claim that is not testable here are in"),
    (2, "2 claims tested by training runs; 2 checks of code and arithmetic and 2 claims that are not testable here are "
        "in")])
def test_the_terminal_counts_claims(count, text, capsys):
    show_claims(count * [row("L1", "direction", "holds"), row("S0.1", "exact", "holds"),
                         row("L2", "direction", "not testable here")])
    assert text in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("stale", "text"), [
    ([], "run: 0 cells were stale\n"), (["a-0"], "run: 1 cell was stale\n"),
    (["a-0", "a-1"], "run: 2 cells were stale\n")])
def test_stale_cells_are_counted(stale, text, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("study.orchestration.runner.run_study", lambda *_: stale)
    runs.run(fake_study(tmp_path), jobs=1, ray=None, gpus=0, allow_missing=False)
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(("arms", "seeds", "text"), [
    (["dynamic"], [0], "**tiny**: 1 arm with 1 seed, all scored"),
    (["dynamic", "static"], [0], "**tiny**: 2 arms with 1 seed each, all scored"),
    (["dynamic"], [0, 1], "**tiny**: 1 arm with 2 seeds, all scored")])
def test_mlflow_shows_how_many_arms_and_seeds_there_are(arms, seeds, text, tmp_path):
    fake_study(tmp_path)
    tags = experiment_tags(write_params(tmp_path, "tiny", arms, seeds))
    assert tags["mlflow.note.content"].startswith(text)


@pytest.mark.usefixtures("undrawn")
def test_the_probe_by_layer_counts_arms(tmp_path):
    probes = pd.DataFrame({"by": "layers", "encoder": "trained", "arm": "dynamic", "number": [0, 1], "accuracy": 0.5})
    drawn = layer_figure(fake_study(tmp_path), probes, {"tfidf": {"accuracy": 0.8}, "majority": {"accuracy": 0.25}})
    assert drawn["layers"].alt == "Probe accuracy by layer of 1 arm, by question"
