"""The examination: text, tokenizer, ladder, curve, checks and batches, put together."""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from study import StudyError
from study.doctor.batch_checks import check_batches
from study.doctor.batches import read_batch
from study.doctor.checks import (
    Finding,
    check_copies,
    check_rows,
    check_tokenizer,
    check_unknown,
    sorted_findings,
)
from study.doctor.collator import split_name
from study.doctor.curve import STATES, Position, position_of
from study.doctor.ladder import Ladder, measure_ladder, own_masking
from study.doctor.lines import RowShares, copies_in, literal_unknown_share, row_shares
from study.doctor.log_checks import RowSettings, check_run
from study.doctor.logs import TrainingLog, read_log
from study.doctor.text import MIB, TextSample, read_text
from study.doctor.tokenizer import EncodedText, Vocabulary, encode_lines, load_vocabulary


@dataclass(frozen=True)
class Request:
    """What is examined. corruption: shares of [MASK], random and kept. sample: bytes of text that are read at most."""
    texts: list[Path]
    tokenizer: str
    loss: float | None = None
    log: Path | None = None
    batches: list[Path] = field(default_factory=list)
    column: str = "text"
    corruption: tuple[float, float, float] = (0.8, 0.1, 0.1)
    mlm_probability: float = 0.15
    max_seq_length: int = 128
    batch_size: int | None = None
    sample: int = 16 * MIB
    seed: int = 0

    @property
    def corruption_name(self) -> str:
        """The corruption in percent, such as 80/10/10."""
        return split_name(self.corruption)

    def check(self) -> None:
        """Raises StudyError if the request makes no sense."""
        if not self.texts and (self.loss is not None or self.log is not None):
            raise StudyError("a loss is held against a text; pass --text too")
        if not self.texts and not self.batches:
            raise StudyError("nothing to examine; pass --text, --batch or both")
        if self.loss is not None and self.log is not None:
            raise StudyError("both --loss and --log; pass one of them")
        if self.loss is not None and self.loss < 0:
            raise StudyError(f"--loss {self.loss:g}: a cross-entropy is not negative; pass it in nats, as the Trainer "
                             f"logs it")


@dataclass(frozen=True)
class Diagnosis:
    """What came out. text: facts about the text by name. ladder and position: None without a text or a loss."""
    request: Request
    vocabulary: Vocabulary
    text: dict[str, str]
    ladder: Ladder | None
    position: Position | None
    findings: list[Finding]


def examine(request: Request, progress: Callable = lambda items, **_: items) -> Diagnosis:
    """Returns the diagnosis. Raises StudyError if an input is missing or unusable."""
    request.check()
    log = None if request.log is None else read_log(request.log)
    vocabulary = load_vocabulary(request.tokenizer)
    batches = [read_batch(path, vocabulary) for path in request.batches]
    findings, text, ladder, position, rows = check_tokenizer(vocabulary), {}, None, None, None
    if request.texts:
        sample = read_text(request.texts, request.column, request.sample, request.seed, progress)
        encoded = encode_lines(vocabulary, sample.lines, progress)
        rows = row_shares(encoded.lengths, request.max_seq_length)
        findings += _text_findings(request, sample, encoded, rows, vocabulary)
        masking = own_masking(request.mlm_probability, request.corruption)
        ladder = measure_ladder(encoded.ids, vocabulary, masking, request.max_seq_length, request.seed, progress)
        text = _facts(sample, encoded, vocabulary)
        if log is not None or request.loss is not None:
            position = position_of(log, request.loss, ladder)
    findings = _run_findings(request, position, log, rows) + findings
    if batches:
        findings += check_batches(batches, vocabulary, request.mlm_probability, request.corruption)
    else:
        findings.append(Finding("not checked", "collator", "No batch was given.", "Save one and pass it with --batch."))
    return Diagnosis(request, vocabulary, text, ladder, position, sorted_findings(findings))


def _run_findings(request: Request, position: Position | None, log: TrainingLog | None,
                  rows: RowShares | None) -> list[Finding]:
    if not request.texts:
        return [Finding("not checked", "text, levels, loss", "No text was given.", "Pass --text, and --loss or --log.")]
    settings = RowSettings(request.batch_size, request.max_seq_length, request.mlm_probability)
    findings = check_run(position, log, settings, rows)
    if position is None:
        findings.append(Finding("not checked", "loss", "No loss was given.", "Pass --loss or --log."))
    return findings


def _text_findings(request: Request, sample: TextSample, encoded: EncodedText, rows: RowShares,
                   vocabulary: Vocabulary) -> list[Finding]:
    unknown = vocabulary.special["unk"]
    tokens = int(encoded.lengths.sum())
    return [check_copies(copies_in(sample, request.texts)),
            *check_unknown(tokens, 0 if unknown is None else int((encoded.ids == unknown).sum()),
                           literal_unknown_share(sample.lines), vocabulary),
            *check_rows(rows, request.max_seq_length)]


def _facts(sample: TextSample, encoded: EncodedText, vocabulary: Vocabulary) -> dict[str, str]:
    read = "all of it" if sample.is_whole else "a sample: " + "; ".join(sample.notes)
    return {"text": f"{sample.total / MIB:,.1f} MiB in files, {read}",
            "lines": f"{len(sample.lines):,} that are not blank, {encoded.lengths.sum():,} tokens",
            "tokenizer": f"{vocabulary.name}, {vocabulary.size:,} ids, {len(vocabulary.ordinary):,} of them ordinary"}


def summary(diagnosis: Diagnosis) -> list[str]:
    """The result in a few sentences: where the loss stands, and since when."""
    position, request = diagnosis.position, diagnosis.request
    if position is None:
        return []
    kind = "all [MASK]" if position.on_mask else request.corruption_name
    levels, place = position.levels, f" at step {position.points[-1][0]:,}" if request.log and position.points else ""
    plateau = (f"{levels.plateau:.2f}" if levels.plateau_top - levels.plateau < 0.005 else
               f"{levels.plateau:.2f} (with the shown token) to {levels.plateau_top:.2f} (without it)")
    smooth = f", smoothed over {position.window} points" if position.window > 1 else ""
    sentences = [f"The {position.measure} is {position.last:.2f} nats{place}{smooth}: {STATES[position.state]}.",
                 f"Unigram plateau of this text under {kind}: {plateau} nats."]
    return sentences + _since(position, request.log is not None)


def _since(position: Position, has_log: bool) -> list[str]:
    if position.state == "plateau":
        since = f" It came there by step {position.reached:,}." if has_log and position.reached is not None else ""
        back = f" It was below at step {position.escaped:,} but came back." if position.escaped is not None else ""
        return [f"Word frequencies alone give this loss: the model need not use any context.{since}{back}"]
    if position.state == "diverged":
        return [f"The run diverged at step {position.diverged:,}."]
    if position.state == "above":
        guess = " It is even above a uniform guess." if position.last > position.levels.uniform else ""
        return [f"Word frequencies alone would give a lower loss: the model has not learnt them yet.{guess}"]
    if position.state == "leaving":
        return ["It has been below for fewer than three points, so it is too early to say that it has left."]
    if position.state == "too low":
        return []
    above = [label for _, label, nll in position.levels.rungs if nll >= position.last]
    below = [label for _, label, nll in position.levels.rungs if nll < position.last]
    left = f"It left the plateau at step {position.escaped:,}. " if position.escaped is not None else ""
    reach = f"better than: {above[-1]}; worse than: {below[0]}" if below else "better than every count model here"
    return [f"{left}The loss is {reach}."]


def as_json(diagnosis: Diagnosis) -> dict:
    """The diagnosis as JSON, with None where a number is not finite."""
    ladder, position, request = diagnosis.ladder, diagnosis.position, diagnosis.request
    content = {"text": diagnosis.text, "summary": summary(diagnosis), "corruption": request.corruption_name,
               "mlm_probability": request.mlm_probability,
               "findings": [asdict(finding) for finding in diagnosis.findings], "ladder": None, "position": None}
    if ladder is not None:
        content["ladder"] = {"counted": ladder.counted, "scored": ladder.scored,
                             "levels": [asdict(level) for level in ladder.levels]}
    if position is not None:
        content["position"] = {name: getattr(position, name) for name in (
            "state", "measure", "on_mask", "window", "reached", "escaped", "diverged", "points")}
        content["position"]["last"] = position.last if math.isfinite(position.last) else None
    return content
