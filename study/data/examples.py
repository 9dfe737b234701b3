"""Token ids of a split in one memory map, and the layouts that cut it into rows.

A store is a folder: `ids.bin` (uint16 or uint32; every document ends with [SEP]), `documents.npy`, `paragraphs.npy`,
`sentences.npy` (int64 offsets of their first tokens; the last entry is the end) and `meta.json` (counts, SHA-256).

A layout names, for each example, the token spans that make a row of `length` tokens:

    [CLS] first [SEP]                    single: full-sentences, document-sentences, paragraphs
    [CLS] first [SEP] second [SEP]       pairs: segment-pairs, sentence-pairs

Formats follow Liu et al. (2019), section 4.2, and the pair sampling of Devlin et al. (2019); differences are stated.
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study import StudyError, randomness


@dataclass(frozen=True)
class TokenStore:
    """One split. `ids` (tokens,) is a memory map; offsets have one entry more than there are pieces."""
    ids: np.ndarray
    documents: np.ndarray
    paragraphs: np.ndarray
    sentences: np.ndarray
    sha256: str

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        try:
            meta = json.loads((folder / "meta.json").read_text())
            offsets = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in OFFSETS}
            ids = np.memmap(folder / "ids.bin", dtype=meta["dtype"], mode="r")
        except (OSError, ValueError, KeyError) as error:
            raise StudyError(f"{folder}: no usable token store ({error}); run `study examples` again") from None
        if len(ids) != meta["tokens"]:
            raise StudyError(f"{folder / 'ids.bin'}: {len(ids)} tokens, meta.json says {meta['tokens']}; "
                             f"run `study examples` again")
        return cls(ids=ids, sha256=meta["sha256"], **offsets)

    def check(self, folder: Path) -> None:
        """Raises StudyError when the content is not what was hashed when it was made."""
        digest = hashlib.sha256(self.ids[:-1])
        for name in OFFSETS:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        if digest.hexdigest() != self.sha256:
            raise StudyError(f"{folder}: not what was written there (SHA-256 {digest.hexdigest()[:12]}, meta.json says "
                             f"{self.sha256[:12]}); run `study examples` again")

    @property
    def document_ends(self) -> np.ndarray:          # (documents,) offset of each document's closing [SEP]
        return self.documents[1:] - 1

    def document_of(self, offsets: np.ndarray) -> np.ndarray:
        """Index of the document that holds each token offset."""
        return np.searchsorted(self.documents, offsets, side="right") - 1

    @property
    def sentence_ends(self) -> np.ndarray:          # (sentences,) end of each sentence, without the closing [SEP]
        return np.minimum(self.sentences[1:], self.document_ends[self.document_of(self.sentences[:-1])])


TRIES = 32                                  # places that a negative second segment is chosen from
OFFSETS = ("documents", "paragraphs", "sentences")


def write_store(corpus: Path, backend, sep: int, folder: Path, progress=lambda items, **_: items) -> dict:
    """Encodes a corpus parquet file with the tokenizer; returns the meta data. Memory does not grow with the text."""
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    dtype = np.uint16 if backend.get_vocab_size() <= 2**16 else np.uint32
    offsets: dict[str, list[np.ndarray]] = {name: [] for name in OFFSETS}
    digest, total, last = hashlib.sha256(), 0, (-1, -1)
    file = pq.ParquetFile(corpus)
    with (folder / "ids.bin").open("wb") as out:
        batches = file.iter_batches(batch_size=10_000)
        for batch in progress(batches, total=-(-file.metadata.num_rows // 10_000), description=f"ids {corpus.stem}"):
            document, paragraph = batch["document"].to_numpy(), batch["paragraph"].to_numpy()
            encoded = [e.ids for e in backend.encode_batch_fast(batch["text"].to_pylist(), add_special_tokens=False)]
            new_document = document != np.concatenate([[last[0]], document[:-1]])
            new_paragraph = paragraph != np.concatenate([[last[1]], paragraph[:-1]])
            closing = new_document & ~((total == 0) & (np.arange(len(document)) == 0))  # [SEP] ends the one before
            starts = total + np.cumsum([0, *map(len, encoded[:-1])]) + np.cumsum(closing)
            pieces = [([sep] if close else []) + ids for close, ids in zip(closing, encoded, strict=True)]
            block = np.concatenate([np.asarray(ids, dtype) for ids in pieces])
            for name, new in (("documents", new_document), ("paragraphs", new_paragraph),
                              ("sentences", np.array([len(ids) > 0 for ids in encoded]))):
                offsets[name].append(starts[new])
            out.write(block.tobytes())
            digest.update(block.tobytes())
            total, last = total + len(block), (document[-1], paragraph[-1])
        out.write(np.asarray([sep], dtype).tobytes())
    for name in OFFSETS:
        array = np.concatenate([*offsets[name], [total + 1]]).astype(np.int64)
        digest.update(array.tobytes())
        np.save(folder / f"{name}.npy", array)
    meta = {"dtype": np.dtype(dtype).name, "tokens": total + 1, "sha256": digest.hexdigest(),
            **{name: sum(map(len, offsets[name])) for name in OFFSETS}}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")
    return meta


@dataclass(frozen=True)
class Spans:
    """Token spans of N rows: offsets and lengths (N,); `label` (N,) 0: second follows first, 1: it does not."""
    first: np.ndarray
    first_length: np.ndarray
    second: np.ndarray | None = None
    second_length: np.ndarray | None = None
    label: np.ndarray | None = None


@dataclass(frozen=True)
class SingleLayout:
    """Rows of one span each, the same at every epoch."""
    starts: np.ndarray
    lengths: np.ndarray
    padded: bool

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def mean_tokens(self) -> float:
        """Real tokens of a row, [CLS] and [SEP] included."""
        return float(self.lengths.mean()) + 2

    def spans(self, epoch: np.ndarray, example: np.ndarray, seed: int) -> Spans:
        return Spans(self.starts[example], self.lengths[example])


def single_layout(store: TokenStore, form: str, length: int) -> SingleLayout:
    """Rows of `length` tokens, [CLS] and [SEP] included.

    full-sentences: consecutive windows over the whole stream, no token lost, no padding, [SEP] between documents (the
    last row reaches back so that it is full). document-sentences: windows within one document, the last one short.
    paragraphs: each paragraph cut at the length, the rest of it lost, as in the common tutorial.
    """
    size = length - 2
    if form == "full-sentences":
        if len(store.ids) < size:
            raise StudyError(f"the text has {len(store.ids)} tokens: fewer than one row of {size}")
        starts = np.minimum(np.arange(-(-len(store.ids) // size)) * size, len(store.ids) - size)
        return SingleLayout(starts, np.full(len(starts), size), padded=False)
    begins, ends = (store.documents[:-1], store.document_ends)
    if form == "paragraphs":
        begins = store.paragraphs[:-1]
        ends = np.minimum(store.paragraphs[1:], store.document_ends[store.document_of(begins)])
        some = ends > begins
        return SingleLayout(begins[some], np.minimum(ends - begins, size)[some], padded=True)
    rows = -(-(ends - begins) // size)
    number = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
    starts = np.repeat(begins, rows) + number * size
    return SingleLayout(starts, np.minimum(np.repeat(ends, rows) - starts, size), padded=True)


@dataclass(frozen=True)
class PairLayout:
    """Chunks of consecutive whole sentences of one document; split, and perhaps answered by another, at every epoch."""
    store: TokenStore
    sentence_ends: np.ndarray
    chunk_begin: np.ndarray                 # (N,) index of the first sentence
    chunk_end: np.ndarray                   # (N,) index after the last
    room: int                               # tokens of both segments together
    swap: bool                              # negatives are swapped segments (SOP) instead of other documents' (NSP)
    single: bool                            # a segment is one sentence
    padded: bool = True

    def __len__(self) -> int:
        return len(self.chunk_begin)

    @property
    def mean_tokens(self) -> float:
        """Real tokens of a positive pair, specials included."""
        length = self.sentence_ends[self.chunk_end - 1] - self.store.sentences[self.chunk_begin]
        return float(np.minimum(length, self.room).mean()) + 3

    def spans(self, epoch: np.ndarray, example: np.ndarray, seed: int) -> Spans:
        """The pairs of the named examples. Half of them, by a fair draw, are negatives.

        A negative's second segment is whole sentences of another document, of a number of places that are drawn those
        closest to the positive one in length: length does not give the label away.
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
            u = randomness.uniforms(seed, randomness.NEGATIVE, epoch[:, None], example[:, None], np.arange(TRIES)[None])
            other, other_end = self._elsewhere(begin, u, second_end - second)
            second, second_end = np.where(label, other, second), np.where(label, other_end, second_end)
        first_length, second_length = _fit(first_end - first, second_end - second, self.room)
        return Spans(first_end - first_length if not self.swap else first, first_length, second, second_length, label)

    def _elsewhere(self, sentence: np.ndarray, u: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Begin and end (N,) of whole sentences in a document other than that of `sentence` (N,): of the places that
        u (N, TRIES) draws, the one where some number of sentences (one, in sentence pairs) comes closest to `length`
        (N,) tokens."""
        store, starts, ends = self.store, self.store.sentences[:-1], self.sentence_ends
        document = store.document_of(starts[sentence])[:, None]
        low = np.searchsorted(starts, store.documents[document])
        high = np.searchsorted(starts, store.documents[document + 1])
        pick = (u * (len(starts) - (high - low))).astype(np.int64)
        pick = np.where(pick >= low, pick + high - low, pick)                                   # (N, TRIES)
        final = np.searchsorted(starts, store.documents[store.document_of(starts[pick]) + 1]) - 1   # of its document
        target = starts[pick] + length[:, None]
        after = np.clip(np.searchsorted(ends, target), pick, final)     # the sentence that reaches the length, or the
        before = np.maximum(after - 1, pick)                            # one before it
        last = pick if self.single else np.where(target - ends[before] < ends[after] - target, before, after)
        row, best = np.arange(len(u)), np.abs(ends[last] - target).argmin(1)
        return starts[pick[row, best]], ends[last[row, best]]


def _fit(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths that fit into `room`: the longer segment gives way, as in BERT's truncation."""
    half = room // 2
    return (np.where(first + second > room, np.where(second < half, room - second, np.minimum(first, room - half)),
                     first),
            np.where(first + second > room, np.where(first < room - half, room - first, np.minimum(second, half)),
                     second))


def pair_layout(store: TokenStore, form: str, length: int, swap: bool) -> PairLayout:
    """segment-pairs: as many whole sentences as fit, two at least. sentence-pairs: two neighbouring sentences."""
    starts, ends = store.sentences[:-1], store.sentence_ends
    document_end = np.searchsorted(starts, store.documents[store.document_of(starts) + 1])  # (sentences,)
    two = np.arange(len(starts)) + 2
    if form == "sentence-pairs":
        after = np.minimum(two, document_end)
    else:
        fits = np.searchsorted(ends, starts + length - 3, side="right")
        after = np.minimum(np.maximum(fits, two), document_end)
    begins, jump, at = [], after.tolist(), 0
    while at < len(starts):
        begins.append(at)
        at = jump[at]
    begin = np.array(begins)
    begin = begin[after[begin] - begin >= 2]
    if not len(begin) or len(store.documents) < 3:
        raise StudyError(f"{form}: the text has no two neighbouring sentences, or fewer than two documents")
    return PairLayout(store, ends, begin, after[begin], room=length - 3, swap=swap, single=form == "sentence-pairs")
