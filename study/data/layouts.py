"""Layouts: how a token store is cut into the rows of `length` tokens that an encoder reads.

    [CLS] first [SEP]                    single: full-sentences, document-sentences, paragraphs
    [CLS] first [SEP] second [SEP]       pairs: segment-pairs, sentence-pairs; paragraph-pairs (paragraph_pairs.py)

A layout gives the token spans of each example. Input formats follow Liu et al. (2019), section 4.2; pair sampling
follows Devlin et al. (2019), except where a docstring says otherwise.

Shapes: N examples.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study import StudyError, randomness
from study.data.token_store import TokenStore

CANDIDATES = 32                             # places from which a negative second segment is chosen


@dataclass(frozen=True)
class Spans:
    """Token spans of rows: offsets and lengths (N,). `label` (N,) is 0 if second follows first in the text, else 1."""
    first: np.ndarray
    first_length: np.ndarray
    second: np.ndarray | None = None
    second_length: np.ndarray | None = None
    label: np.ndarray | None = None


@dataclass(frozen=True)
class Segments:
    """Pairs of segments of whole sentences, before they are cut to the length of a row: token offsets (N,).

    `label` (N,) is 0 if second follows first in the text, else 1.
    """
    first: np.ndarray
    first_end: np.ndarray
    second: np.ndarray
    second_end: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class SingleLayout:
    """Rows of one span each, the same in every epoch."""
    starts: np.ndarray
    lengths: np.ndarray
    padded: bool

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def mean_tokens(self) -> float:
        """Returns the mean number of real tokens per row, including [CLS] and [SEP]."""
        return float(self.lengths.mean()) + 2

    def spans(self, epoch: np.ndarray, example: np.ndarray, seed: int) -> Spans:
        """Returns the spans of the examples (N,)."""
        return Spans(self.starts[example], self.lengths[example])


def single_layout(store: TokenStore, form: str, length: int) -> SingleLayout:
    """Returns rows of `length` tokens, including [CLS] and [SEP].

    full-sentences: consecutive windows over the whole stream with [SEP] between documents. No token is lost and no
    row is padded; the last row overlaps the previous one so that it is full.
    document-sentences: consecutive windows within each document; the last window of a document is short.
    paragraphs: each paragraph truncated to the length, as in the common tutorial; the rest of it is lost.
    Raises StudyError if the text is shorter than one row of full-sentences.
    """
    size = length - 2
    if form == "full-sentences":
        if len(store.ids) < size:
            raise StudyError(f"inputs.format full-sentences: the text has {len(store.ids)} tokens, fewer than one row "
                             f"of {size}; choose a smaller examples.max_seq_length or a larger corpus")
        starts = np.minimum(np.arange(-(-len(store.ids) // size)) * size, len(store.ids) - size)
        return SingleLayout(starts, np.full(len(starts), size), padded=False)
    begins, ends = (store.documents[:-1], store.document_ends)
    if form == "paragraphs":
        begins = store.paragraphs[:-1]
        ends = np.minimum(store.paragraphs[1:], store.document_ends[store.document_of(begins)])
        not_empty = ends > begins
        return SingleLayout(begins[not_empty], np.minimum(ends - begins, size)[not_empty], padded=True)
    rows = -(-(ends - begins) // size)
    number = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
    starts = np.repeat(begins, rows) + number * size
    return SingleLayout(starts, np.minimum(np.repeat(ends, rows) - starts, size), padded=True)


@dataclass(frozen=True)
class PairLayout:
    """Chunks of consecutive whole sentences of one document.

    At every epoch each chunk is split into a pair of segments, and about half of the pairs become negatives.
    """
    store: TokenStore
    sentence_ends: np.ndarray
    chunk_begin: np.ndarray                 # (N,) index of the first sentence
    chunk_end: np.ndarray                   # (N,) index after the last
    room: int                               # tokens for both segments together
    swap: bool                              # negatives: segments swapped (SOP) or second from elsewhere (NSP)
    single: bool                            # a segment is one sentence
    padded: bool = True

    def __len__(self) -> int:
        return len(self.chunk_begin)

    @property
    def mean_tokens(self) -> float:
        """Returns the mean number of real tokens per positive pair, including special tokens."""
        length = self.sentence_ends[self.chunk_end - 1] - self.store.sentences[self.chunk_begin]
        return float(np.minimum(length, self.room).mean()) + 3

    def spans(self, epoch: np.ndarray, example: np.ndarray, seed: int) -> Spans:
        """Returns the pairs of the examples (N,) at the epochs (N,), cut to the length of a row; see `segments`."""
        return self.cut(self.segments(epoch, example, seed))

    def segments(self, epoch: np.ndarray, example: np.ndarray, seed: int) -> Segments:
        """Returns the pairs of the examples (N,) at the epochs (N,). Each is a negative with probability 1/2.

        A negative's second segment consists of whole sentences of another document. Of several random places the one
        closest in length to the true second segment is taken, so that the length does not reveal the label (BERT's
        own sampling does not control for length).
        """
        draw = lambda stream: randomness.uniforms(seed, stream, epoch, example)  # noqa: E731
        begin, end = self.chunk_begin[example], self.chunk_end[example]
        split = begin + 1 + (draw(randomness.SPLIT) * (end - begin - 1)).astype(np.int64)
        label = (draw(randomness.PAIR) < 0.5).astype(np.int64)
        starts, ends = self.store.sentences[:-1], self.sentence_ends
        first, first_end, second, second_end = starts[begin], ends[split - 1], starts[split], ends[end - 1]
        if self.swap:
            swapped = label == 1
            first, second = np.where(swapped, second, first), np.where(swapped, first, second)
            first_end, second_end = np.where(swapped, second_end, first_end), np.where(swapped, first_end, second_end)
        else:
            u = randomness.uniforms(seed, randomness.NEGATIVE, epoch[:, None], example[:, None],
                                    np.arange(CANDIDATES)[None])
            negative, negative_end = self._negatives(begin, u, second_end - second)
            second, second_end = np.where(label, negative, second), np.where(label, negative_end, second_end)
        return Segments(first, first_end, second, second_end, label)

    def cut(self, segments: Segments) -> Spans:
        """Returns the segments (N pairs) cut to the length of a row: the second loses its end, the first its beginning.
        Where negatives are swapped segments, both lose their end, so that a cut does not reveal the order."""
        first, first_end = segments.first, segments.first_end
        first_length, second_length = _truncate(first_end - first, segments.second_end - segments.second, self.room)
        return Spans(first if self.swap else first_end - first_length, first_length, segments.second, second_length,
                     segments.label)

    def _negatives(self, sentence: np.ndarray, u: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Begin and end (N,) of whole sentences in a document other than that of `sentence` (N,).

        u (N, CANDIDATES) picks candidate first sentences. The candidate is chosen whose segment (one sentence in
        sentence pairs, else as many as fit best) is closest to `length` (N,) tokens.
        """
        store, starts, ends = self.store, self.store.sentences[:-1], self.sentence_ends
        document = store.document_of(starts[sentence])[:, None]
        low = np.searchsorted(starts, store.documents[document])
        high = np.searchsorted(starts, store.documents[document + 1])
        pick = (u * (len(starts) - (high - low))).astype(np.int64)
        pick = np.where(pick >= low, pick + high - low, pick)                               # (N, CANDIDATES)
        final = np.searchsorted(starts, store.documents[store.document_of(starts[pick]) + 1]) - 1   # of its document
        target = starts[pick] + length[:, None]
        after = np.clip(np.searchsorted(ends, target), pick, final)     # the sentence that reaches the length
        before = np.maximum(after - 1, pick)                            # the sentence before it
        last = pick if self.single else np.where(target - ends[before] < ends[after] - target, before, after)
        row, best = np.arange(len(u)), np.abs(ends[last] - target).argmin(1)
        return starts[pick[row, best]], ends[last[row, best]]


def _truncate(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths (N,) that fit into `room` tokens; the longer segment is shortened first, as in BERT."""
    half = room // 2
    return (np.where(first + second > room, np.where(second < half, room - second, np.minimum(first, room - half)),
                     first),
            np.where(first + second > room, np.where(first < room - half, room - first, np.minimum(second, half)),
                     second))


def pair_layout(store: TokenStore, form: str, length: int, swap: bool) -> PairLayout:
    """Returns pairs of at most `length` tokens, including special tokens.

    segment-pairs: chunks of as many whole sentences as fit, at least two. sentence-pairs: two adjacent sentences.
    swap: negatives are the two segments in the wrong order (SOP) instead of a segment of another document (NSP).
    Raises StudyError if the text has no two adjacent sentences or fewer than two documents.
    """
    starts, ends = store.sentences[:-1], store.sentence_ends
    document_end = np.searchsorted(starts, store.documents[store.document_of(starts) + 1])  # (sentences,)
    two = np.arange(len(starts)) + 2
    if form == "sentence-pairs":
        after = np.minimum(two, document_end)
    else:
        fits = np.searchsorted(ends, starts + length - 3, side="right")
        after = np.minimum(np.maximum(fits, two), document_end)
    begins, next_begin, sentence = [], after.tolist(), 0
    while sentence < len(starts):
        begins.append(sentence)
        sentence = next_begin[sentence]
    begin = np.array(begins)
    begin = begin[after[begin] - begin >= 2]
    if not len(begin) or len(store.documents) < 3:
        raise StudyError(f"the text has no {form}: these need two sentences in a row in one document, and a second "
                         f"document")
    return PairLayout(store, ends, begin, after[begin], room=length - 3, swap=swap, single=form == "sentence-pairs")
