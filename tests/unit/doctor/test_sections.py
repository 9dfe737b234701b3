"""The table of the ladder: which column perplexity and the distance of the loss belong to, and that it says so."""
import math
from pathlib import Path

import pytest

from study.doctor.curve import position_of
from study.doctor.diagnose import Diagnosis, Request
from study.doctor.sections import ladder_section
from tests.unit.doctor.test_curve import LADDER, falling, log_of


def section_of(position, corruption=(0.8, 0.1, 0.1)):
    request = Request([Path("a.txt")], "tokenizer", corruption=corruption)
    return ladder_section(Diagnosis(request, None, {}, LADDER, position, []))


@pytest.mark.parametrize(("on_mask", "kind"), [(True, "all [MASK], like this loss"), (False, "80/10/10")])
def test_perplexity_and_the_distance_of_the_loss_belong_to_one_column(on_mask, kind):
    section = section_of(position_of(log_of(evaluations=falling(6.5, 300), on_mask=on_mask), None, LADDER))
    assert section.columns[-2:] == ["perplexity", "loss minus it"]
    for row, level in zip(section.rows, LADDER.levels, strict=True):
        nll = level.all_mask if on_mask else level.own
        assert row[-2:] == [f"{math.exp(nll):,.0f}", f"{6.5 - nll:+.2f}"]
    assert section.notes[-1].endswith(f"Perplexity and the last column belong to {kind}.")


def test_without_a_loss_perplexity_belongs_to_the_corruption_of_the_user():
    section = section_of(None)
    assert [row[-1] for row in section.rows] == [f"{math.exp(level.own):,.0f}" for level in LADDER.levels]
    assert section.notes[-1].endswith("Perplexity belongs to 80/10/10.")


def test_a_ladder_of_all_mask_alone_needs_no_such_note():
    assert "belong" not in " ".join(section_of(None, (1.0, 0.0, 0.0)).notes)
