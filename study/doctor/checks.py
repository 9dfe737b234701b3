"""Findings: what was checked, what came out, and what to do about it. Here are those about the text and its rows."""
from __future__ import annotations

from dataclasses import dataclass

from study.doctor.lines import Copies, RowShares
from study.doctor.tokenizer import Vocabulary

SEVERITIES = ("problem", "note", "fine", "not checked")
MANY_COPIES, SOME_COPIES = 0.20, 0.05       # shares of the characters
MANY_UNKNOWN, SOME_UNKNOWN = 0.05, 0.01     # shares of the tokens
SOME_LITERAL = 0.002                        # share of the words
MUCH_PADDING = 0.30                         # share of the positions
MUCH_CUT = 0.10                             # share of the tokens
SHOWN_CHARACTERS = 40                       # of a line that is quoted


@dataclass(frozen=True)
class Finding:
    """One check. severity: one of SEVERITIES. remedy: empty if no action is needed."""
    severity: str
    title: str
    detail: str
    remedy: str = ""


def sorted_findings(findings: list[Finding]) -> list[Finding]:
    """The worst first; those of one severity keep their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def check_copies(copies: Copies) -> Finding:
    """Lines that occur more than once."""
    detail = (f"{copies.share:.1%} of {copies.lines:,} lines are copies of an earlier line; they hold "
              f"{copies.characters:.1%} of the characters. Lines that differ in a single word are not counted")
    if not copies.is_exact:
        detail += ". Only a sample was compared, so this is a lower bound"
    if copies.characters < SOME_COPIES:
        return Finding("fine", "repeated lines", detail + ".")
    if copies.example:
        quoted = copies.example[:SHOWN_CHARACTERS] + ("..." if len(copies.example) > SHOWN_CHARACTERS else "")
        detail += f". The costliest one is {quoted!r}"
    return Finding("problem" if copies.characters >= MANY_COPIES else "note", "repeated lines", detail + ".",
                   "Remove copies before training. Copies that are in the validation text too make it too easy, and "
                   "the levels above as well.")


def check_unknown(tokens: int, unknown: int, literal: float, vocabulary: Vocabulary) -> list[Finding]:
    """[UNK] among the tokens, and the literal <unk> in the text. literal: its share of the words."""
    findings = []
    if vocabulary.special["unk"] is None:
        findings.append(Finding("fine", "unknown tokens", "This tokenizer has no [UNK]: it can encode any text."))
    else:
        share = unknown / max(1, tokens)
        severity = "problem" if share >= MANY_UNKNOWN else "note" if share >= SOME_UNKNOWN else "fine"
        findings.append(Finding(
            severity, "unknown tokens", f"{share:.2%} of {tokens:,} tokens are [UNK].", "" if severity == "fine" else
            "Train a tokenizer on this text, or check its language, case and normalisation. If your collator selects "
            "[UNK], it lowers the loss and teaches nothing."))
    if literal >= SOME_LITERAL:
        findings.append(Finding(
            "note", "literal <unk>", f"{literal:.2%} of the words in the text are the characters <unk>, which BERT's "
            f"tokenizer splits into pieces that are easy to predict.",
            "Use a raw version of the corpus, or replace <unk> by the tokenizer's [UNK] and never select it."))
    return findings


def check_rows(rows: RowShares, max_seq_length: int) -> list[Finding]:
    """Padding and cut lines, if every line is a row of its own."""
    much = rows.padding >= MUCH_PADDING
    findings = [Finding(
        "note" if much else "fine", "padding", f"If each line is a row padded to {max_seq_length}, {rows.padding:.0%} "
        f"of the positions are padding, and a row has {rows.mean:.0f} tokens.",
        "Join lines to full rows (group_texts in the run_mlm.py of transformers), or pad to the longest row of the "
        "batch." if much else "")]
    if rows.cut >= MUCH_CUT:
        findings.append(Finding("note", "cut lines", f"If each line is a row cut at {max_seq_length}, {rows.cut:.0%} "
                                f"of the tokens are lost.", "Split long lines into several rows."))
    return findings


def check_tokenizer(vocabulary: Vocabulary) -> list[Finding]:
    """Special tokens that masked pre-training needs."""
    missing = [kind for kind in ("mask", "pad") if vocabulary.special[kind] is None]
    remedies = {"mask": Finding("problem", "no [MASK]", "This tokenizer has no [MASK] token.",
                                "Add one before masked pre-training: tokenizer.add_special_tokens({'mask_token': "
                                "'[MASK]'}), then resize the model's embeddings."),
                "pad": Finding("note", "no [PAD]", "This tokenizer has no [PAD] token, so padding cannot be recognised "
                               "by its id.", "Add one if rows differ in length, and pass attention_mask.")}
    return [remedies[kind] for kind in missing]
