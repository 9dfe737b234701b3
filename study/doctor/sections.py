"""The tables of a diagnosis, for the terminal and for the page alike."""
from __future__ import annotations

import math
from dataclasses import dataclass, field

from study.doctor.diagnose import Diagnosis


@dataclass(frozen=True)
class Section:
    """A table with a title. numbers: the columns that are aligned on the right. notes: sentences below it."""
    title: str
    columns: list[str]
    rows: list[list[str]]
    numbers: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)


def sections(diagnosis: Diagnosis) -> list[Section]:
    """All tables, in the order in which they are read."""
    parts = [ladder_section(diagnosis)] if diagnosis.ladder is not None else []
    return [*parts, findings_section(diagnosis)]


def ladder_section(diagnosis: Diagnosis) -> Section:
    """The levels under both corruptions. Perplexity and the distance of the loss belong to the corruption under which
    the loss was measured; without a loss, to the user's own."""
    ladder, position, request = diagnosis.ladder, diagnosis.position, diagnosis.request
    own = f"{request.corruption_name}, nats"
    columns, numbers = ["reference", "all [MASK], nats"], {"all [MASK], nats", "perplexity", own, "loss minus it"}
    columns += ["perplexity"] if request.corruption_name == "100/0/0" else [own, "perplexity"]
    columns += ["loss minus it"] if position is not None else []
    on_mask, rows = position is not None and position.on_mask, []
    for level in ladder.levels:
        row = [level.label, f"{level.all_mask:.2f}"]
        row += [f"{level.own:.2f}"] if own in columns else []
        nll = level.all_mask if on_mask else level.own
        row += [f"{math.exp(nll):,.0f}"]
        row += [f"{position.last - nll:+.2f}"] if position is not None else []
        rows.append(row)
    notes = [f"Counted on {ladder.counted:,} tokens of the text, scored on {ladder.scored:,} masked tokens of other "
             f"parts of it; standard error of a level at most {max(level.error for level in ladder.levels):.2f} nats. "
             f"{request.mlm_probability:.0%} of the tokens are masked, in rows of {request.max_seq_length}. "
             f"Another text or tokenizer has other levels."]
    if own in columns:
        kind = "all [MASK], like this loss" if on_mask else request.corruption_name
        belonging = "Perplexity belongs" if position is None else "Perplexity and the last column belong"
        notes.append(f"Under {request.corruption_name} the levels below uniform are those of a model that also uses "
                     f"the shown token. A model that ignores it has the levels of all [MASK]. {belonging} to {kind}.")
    return Section("The ladder of this text", columns, rows, frozenset(numbers), notes)


def findings_section(diagnosis: Diagnosis) -> Section:
    """What was checked."""
    rows = [[finding.severity, finding.title, finding.detail, finding.remedy] for finding in diagnosis.findings]
    return Section("What was checked", ["", "check", "result", "what to do"], rows)
