"""Statistics of lines of text that need no model: copies, unknown tokens, padding and the literal <unk>."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study.doctor.text import LONGEST_LINE, TextSample, format_of

EXACT_COPIES = 256 << 20                    # bytes; plain files up to this size are searched for copies as a whole
LITERAL_UNKNOWN = "<unk>"


@dataclass(frozen=True)
class Copies:
    """Lines that equal an earlier line: how many, of how many, and their share of the characters.

    is_exact: whether all lines were compared. Otherwise the share is a lower bound of that in the whole text, because
    a line of the sample may be the copy of a line outside it.
    """
    copies: int
    lines: int
    characters: float
    is_exact: bool
    example: str

    @property
    def share(self) -> float:
        """Copies per line."""
        return self.copies / self.lines


def copies_in(sample: TextSample, paths: Sequence[Path], exact: int = EXACT_COPIES) -> Copies:
    """Counts copies in the whole files if they are plain text of at most `exact` bytes together, else in the sample."""
    plain = all(path.suffix != ".gz" and format_of(path) in ("", ".txt", ".text", ".raw") for path in paths)
    if sample.is_whole or not plain or sample.total > exact:
        return count_copies([line.encode() for line in sample.lines], sample.is_whole)
    hashes, lengths = [], []
    for path in paths:
        with path.open("rb") as file:
            while content := file.read(1 << 24):
                lines = [line.strip() for line in (content + file.readline(LONGEST_LINE)).splitlines()]
                hashes.append(np.array([hash(line) for line in lines if line], np.int64))
                lengths.append(np.array([len(line) for line in lines if line], np.int64))
    return _copies(np.concatenate(hashes), np.concatenate(lengths), True,
                   _most_frequent([line.encode() for line in sample.lines]))


def count_copies(lines: list[bytes], is_exact: bool) -> Copies:
    """Counts copies among lines."""
    hashes, lengths = (np.fromiter(map(of, lines), np.int64, len(lines)) for of in (hash, len))
    return _copies(hashes, lengths, is_exact, _most_frequent(lines))


def _copies(hashes: np.ndarray, lengths: np.ndarray, is_exact: bool, example: str) -> Copies:
    """hashes and lengths (lines,). Two different lines have the same 64-bit hash with a chance below 1e-5 for ten
    million lines."""
    first = np.zeros(len(hashes), bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    return Copies(int((~first).sum()), len(hashes), float(lengths[~first].sum() / lengths.sum()), is_exact, example)


def _most_frequent(lines: list[bytes]) -> str:
    """The line with the most characters in copies; empty if no line repeats."""
    hashes = np.fromiter(map(hash, lines), np.int64, len(lines))
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    lengths = np.fromiter(map(len, lines), np.int64, len(lines))[first]
    best = int(np.argmax((counts - 1) * lengths))
    return lines[first[best]].decode(errors="replace") if counts[best] > 1 else ""


@dataclass(frozen=True)
class RowShares:
    """Shares if every line is a row of its own: `padding` of all positions of rows, `cut` of all tokens of lines.

    mean: tokens of a row that are not padding.
    """
    padding: float
    cut: float
    mean: float


def row_shares(lengths: np.ndarray, max_seq_length: int) -> RowShares:
    """lengths (lines,): tokens of each line. A row has two more, [CLS] and [SEP]; longer lines are cut."""
    kept = np.minimum(lengths, max_seq_length - 2)
    return RowShares(float(1 - (kept + 2).mean() / max_seq_length), float(1 - kept.sum() / lengths.sum()),
                     float((kept + 2).mean()))


def literal_unknown_share(lines: Sequence[str]) -> float:
    """Share of the words, split at white space, that are the literal <unk> of corpora such as WikiText."""
    words = unknown = 0
    for line in lines:
        parts = line.split()
        words, unknown = words + len(parts), unknown + parts.count(LITERAL_UNKNOWN)
    return unknown / max(1, words)
