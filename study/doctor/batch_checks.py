"""Findings about a collator, from one batch or more."""
from __future__ import annotations

from study.doctor.batches import Batch
from study.doctor.checks import Finding
from study.doctor.collator import (
    ALPHA,
    EVERYWHERE,
    SPLITS,
    Counts,
    Shares,
    count,
    interval,
    repeats,
    split_name,
    split_p_values,
    tokens_to_tell,
)
from study.doctor.tokenizer import Vocabulary

LEAST_TO_TELL = 30                          # selected tokens


def check_batches(batches: list[Batch], vocabulary: Vocabulary, mlm_probability: float,
                  corruption: Shares) -> list[Finding]:
    """Findings about all batches together: labels, rate, split, random tokens, and whether masks repeat.

    mlm_probability and corruption (shares of [MASK], random and kept) are what the user says of the collator.
    """
    counts = sum((count(batch, vocabulary) for batch in batches), Counts())
    findings = check_labels(counts, vocabulary)
    if counts.labels_everywhere:
        findings.append(Finding("not checked", "rate and split of the collator", "Labels do not tell which tokens were "
                                "selected."))
        return findings
    findings += [check_rate(counts, mlm_probability), check_split(counts, vocabulary, corruption),
                 *check_random(counts, vocabulary)]
    if len(batches) > 1:
        findings += [check_repeats(batches[0], other, vocabulary) for other in batches[1:]]
    else:
        findings.append(Finding("not checked", "static or dynamic masks", "There is one batch.",
                                "Pass a second --batch with the same rows, from another epoch."))
    return findings


def check_labels(counts: Counts, vocabulary: Vocabulary) -> list[Finding]:
    """Labels where none should be, and ids outside the vocabulary."""
    findings = []
    if counts.outside:
        findings.append(Finding("problem", "ids outside the vocabulary", f"{counts.outside:,} positions have an id or "
                             f"label outside 0 to {vocabulary.size - 1:,}.",
                             "Use the tokenizer that made the batch, and resize the model's embeddings to it."))
    if counts.labels_everywhere:
        hidden = (counts.mask + counts.random) / max(1, counts.selected)
        findings.append(Finding(
            "problem", "labels at unselected positions", f"{counts.selected / max(1, counts.eligible):.0%} of the "
            f"ordinary positions have a label (more than {EVERYWHERE:.0%}), and {hidden:.1%} of these show another "
            f"token than the label. The loss is mostly that of copying visible tokens.",
            "Set labels to -100 wherever no token was selected."))
    if counts.labelled and counts.mask + counts.random == 0:
        findings.append(Finding(
            "problem", "no token is masked", f"All {counts.labelled:,} labels equal the token that is shown.",
            "Apply the collator once, and make labels from a copy of the ids that is taken before masking."))
    if not counts.labelled:
        findings.append(Finding("problem", "no labels", "Every label is -100, so there is nothing to learn.",
                             "Check the mask of special tokens and mlm_probability."))
    if counts.unlabelled_masks:
        findings.append(Finding(
            "problem", "[MASK] without a label",
            f"{counts.unlabelled_masks:,} positions show [MASK] and have no label.",
            "Set the label before the token is replaced; do not mask twice."))
    for number, name in ((counts.labelled_special, "special tokens"), (counts.labelled_padding, "padding")):
        if number:
            findings.append(Finding(
                "problem", f"labels at {name}", f"{number:,} of {counts.labelled:,} labels stand at {name}.",
                "Pass return_special_tokens_mask=True to the tokenizer, or exclude these positions."))
    if counts.labelled_unknown:
        findings.append(Finding(
            "note", "labels at [UNK]", f"{counts.labelled_unknown:,} of {counts.labelled:,} labels are [UNK].",
            "Never select [UNK]."))
    return findings or [Finding("fine", "labels", f"All {counts.labelled:,} labels stand at ordinary tokens, and no "
                                f"other position has one.")]


def check_rate(counts: Counts, mlm_probability: float) -> Finding:
    """The share of ordinary tokens that is selected."""
    if not counts.eligible:
        return Finding("problem", "selected tokens", "The batch has no ordinary token.", "Pass a batch with text.")
    share, low, high = interval(counts.selected, counts.eligible)
    detail = (f"{share:.2%} [{low:.2%}, {high:.2%}] of {counts.eligible:,} ordinary tokens are selected; "
              f"{counts.selected / max(1, counts.real):.2%} of all positions outside padding.")
    fits = low <= mlm_probability <= high
    return Finding("fine" if fits else "note", "selected tokens", detail, "" if fits else
                   f"The interval does not contain {mlm_probability:.0%}. Pass the intended --mlm-probability, or "
                   f"check the collator. Selecting whole words or spans also widens the spread.")


def check_split(counts: Counts, vocabulary: Vocabulary, corruption: Shares) -> Finding:
    """[MASK], random and kept, and whether the split that the ladder is for, or which other known one, fits them."""
    title, asked = "corruption of selected tokens", split_name(corruption)
    if counts.selected < LEAST_TO_TELL:
        return Finding("not checked", title, f"{counts.selected} selected tokens are too few.", "Pass a larger batch.")
    shares = [(name, *interval(number, counts.selected))
              for name, number in zip(("[MASK]", "random", "kept"), counts.split, strict=True)]
    detail = ", ".join(f"{share:.1%} [{low:.1%}, {high:.1%}] {name}" for name, share, low, high in shares)
    splits = {asked: ("as passed with --corruption", corruption)} | SPLITS
    p_values = split_p_values(counts.split, vocabulary.size, {name: shares for name, (_, shares) in splits.items()})
    fits = sorted((name for name, p in p_values.items() if p >= ALPHA), key=lambda name: -p_values[name])
    detail += f" of {counts.selected:,} selected tokens."
    mask, random, _ = corruption
    repair = (f"If {asked} is meant, draw one uniform number per selected token: below {mask:g} [MASK], below "
              f"{mask + random:g} random, else kept.")
    if not fits:
        return Finding("note", title, f"{detail} No known split fits, nor does {asked} (chi-square test, 5 %).",
                       f"{repair} Otherwise pass the split that is meant with --corruption.")
    listed = "; ".join(f"{name} ({splits[name][0]}, p = {p_values[name]:.2f})" for name in fits)
    detail += f" Compatible with {listed}."
    if len(fits) > 1:
        needed = max(tokens_to_tell(splits[fits[0]][1], splits[other][1]) for other in fits[1:])
        detail += f" Too small to tell these apart: about {needed:,} selected tokens are needed."
    if asked in fits:
        return Finding("fine", title, detail)
    return Finding("note", title, f"{detail} {asked} does not fit: the levels of the ladder, and what is said about "
                   f"the loss, are for another split than that of the batch.",
                   f"Pass --corruption {fits[0]} to measure the levels of this split. {repair}")


def check_random(counts: Counts, vocabulary: Vocabulary) -> list[Finding]:
    """Special and unused ids among the random tokens."""
    if not counts.random:
        return []
    share = 1 - len(vocabulary.ordinary) / vocabulary.size
    detail = (f"{counts.random_special:,} of {counts.random:,} random tokens are special or unused ids. If they were "
              f"drawn from all ids, {counts.random * share:,.1f} would be expected.")
    if counts.random_special:
        return [Finding("note", "special ids among random tokens", detail, "The collator of transformers draws from "
                        "all ids. The effect on the loss is small; draw from ordinary ids to avoid it.")]
    return [Finding("fine", "special ids among random tokens", detail)]


def check_repeats(first: Batch, second: Batch, vocabulary: Vocabulary) -> Finding:
    """Whether the masks of equal rows are equal."""
    title = f"masks of {first.path.name} and {second.path.name}"
    overlap = repeats(first, second, vocabulary)
    if not overlap.selected:
        return Finding("not checked", title, "The batches share no row with selected tokens.",
                       "Save batches with the same rows, from two epochs.")
    detail = (f"{overlap.rows:,} rows occur in both batches. {overlap.both / overlap.selected:.1%} of the positions "
              f"that are selected in the first are selected in the second; {overlap.chance:.1%} would be by chance.")
    if overlap.is_static:
        return Finding("note", title, f"{detail} The masks repeat: static masking.", "Mask in the collator, not when "
                       "the data set is made, so that every epoch has new masks.")
    _, low, high = interval(overlap.both, overlap.selected)
    if low <= overlap.chance <= high:
        return Finding("fine", title, f"{detail} The masks are drawn again: dynamic masking.")
    return Finding("note", title, f"{detail} The overlap is not by chance, and not complete.",
                   "Check whether the random numbers are seeded alike in each epoch or worker.")
