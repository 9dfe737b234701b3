"""The questions by which arms and claims are grouped."""
import pytest

from study.analysis.claims import TrainingClaim, load_claims
from study.analysis.questions import QUESTIONS, question_of, question_of_factor


def test_every_factor_belongs_to_exactly_one_question(study):
    factors = [factor for part in QUESTIONS.values() for factor in part]
    assert sorted(factors) == sorted({arm.factor for arm in study.arms.values()})
    assert question_of_factor("targets") == "rate and selection"
    assert question_of_factor("a factor of one's own") == "other"


def test_every_claim_that_runs_test_has_a_question(study):
    claims = load_claims(study)
    for name, claim in claims.items():
        assert (question_of(study, claim) in QUESTIONS) == isinstance(claim, TrainingClaim), name


@pytest.mark.parametrize(("name", "question"), [
    ("L2", "corruption"), ("S0.15", "corruption"),          # the baseline against an arm, and the reverse
    ("L11", "optimiser and batch size"), ("L4", "rate and selection"),
    ("L23", "features"),                                    # of an arm on pairs, but about its pooling
    ("S0.10", "features"), ("S0.9", "features"), ("S0.7", "leaving the plateau"), ("A/A", "noise"),
    ("P2", "positions")])
def test_the_question_follows_from_the_arms_or_else_from_the_metric(study, name, question):
    assert question_of(study, load_claims(study)[name]) == question
