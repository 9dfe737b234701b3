"""Token ids of a split in one memory map, with the offsets of its documents, paragraphs and sentences.

A store is a folder:

    ids.bin            token ids (uint16 or uint32); every document ends with [SEP]
    documents.npy, paragraphs.npy, sentences.npy   int64 offsets of their first tokens, and the end as the last entry
    meta.json          counts and SHA-256

If a space is a token, as in a vocabulary of characters, sentences are joined by a space and paragraphs by a line end. A
sentence or paragraph then begins with this token, unless its document does.
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study import StudyError

OFFSETS = ("documents", "paragraphs", "sentences")
BATCH_ROWS = 10_000                         # sentences encoded at once


@dataclass(frozen=True)
class TokenStore:
    """One split. `ids` (tokens,) is a memory map; each offset array has one entry more than there are pieces."""
    ids: np.ndarray
    documents: np.ndarray
    paragraphs: np.ndarray
    sentences: np.ndarray
    sha256: str

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """Returns the store in `folder`. Raises StudyError if it is missing, damaged or incomplete."""
        try:
            meta = json.loads((folder / "meta.json").read_text())
            offsets = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in OFFSETS}
            ids = np.memmap(folder / "ids.bin", dtype=meta["dtype"], mode="r")
        except (OSError, ValueError, KeyError) as error:
            raise StudyError(f"{folder}: no usable token store ({error}); run `study examples` again") from None
        if len(ids) != meta["tokens"]:
            raise StudyError(f"{folder / 'ids.bin'}: {len(ids)} tokens, but meta.json records {meta['tokens']}; "
                             f"run `study examples` again")
        return cls(ids=ids, sha256=meta["sha256"], **offsets)

    def check(self, folder: Path) -> None:
        """Raises StudyError if the content does not match the hash that was recorded when it was written."""
        digest = hashlib.sha256(self.ids[:-1])
        for name in OFFSETS:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        if digest.hexdigest() != self.sha256:
            raise StudyError(f"{folder}: changed since it was written (SHA-256 {digest.hexdigest()[:12]}; meta.json "
                             f"records {self.sha256[:12]}); run `study examples` again")

    @property
    def document_ends(self) -> np.ndarray:
        """Returns the offset of each document's closing [SEP], (documents,)."""
        return self.documents[1:] - 1

    def document_of(self, offsets: np.ndarray) -> np.ndarray:
        """Returns the index of the document that contains each token offset."""
        return np.searchsorted(self.documents, offsets, side="right") - 1

    @property
    def sentence_ends(self) -> np.ndarray:
        """Returns the end of each sentence, (sentences,), without the document's closing [SEP]."""
        return np.minimum(self.sentences[1:], self.document_ends[self.document_of(self.sentences[:-1])])


def write_store(corpus: Path, backend, sep_id: int, folder: Path, progress=lambda items, **_: items) -> dict:
    """Encodes a parquet file of a corpus folder with a tokenizer and returns the metadata.

    Memory does not grow with the text.
    """
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    dtype = np.uint16 if backend.get_vocab_size() <= 2**16 else np.uint32
    offsets: dict[str, list[np.ndarray]] = {name: [] for name in OFFSETS}
    digest, total, last = hashlib.sha256(), 0, (-1, -1)
    file = pq.ParquetFile(corpus)
    with (folder / "ids.bin").open("wb") as out:
        batches, count = file.iter_batches(batch_size=BATCH_ROWS), -(-file.metadata.num_rows // BATCH_ROWS)
        for batch in progress(batches, total=count, description=f"ids {corpus.stem}"):
            block, new = _encoded(batch, backend, sep_id, dtype, total, last)
            for name in OFFSETS:
                offsets[name].append(new[name])
            out.write(block.tobytes())
            digest.update(block.tobytes())
            total += len(block)
            last = batch["document"][-1].as_py(), batch["paragraph"][-1].as_py()
        out.write(np.asarray([sep_id], dtype).tobytes())
    for name in OFFSETS:
        array = np.concatenate([*offsets[name], [total + 1]]).astype(np.int64)
        digest.update(array.tobytes())
        np.save(folder / f"{name}.npy", array)
    meta = {"dtype": np.dtype(dtype).name, "tokens": total + 1, "sha256": digest.hexdigest(),
            **{name: sum(map(len, offsets[name])) for name in OFFSETS}}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")
    return meta


def _encoded(batch, backend, sep_id: int, dtype: type, total: int, last: tuple[int, int]) -> tuple[np.ndarray, dict]:
    """Token ids of a batch of sentences, and the offsets of the documents, paragraphs and sentences that begin in it.

    total: tokens before the batch. last: document and paragraph of the sentence before it, -1 at the start. [SEP] is
    written before each new document, so the last document of a batch is closed by the next batch.
    """
    document, paragraph = batch["document"].to_numpy(), batch["paragraph"].to_numpy()
    new_document = document != np.concatenate([[last[0]], document[:-1]])
    new_paragraph = paragraph != np.concatenate([[last[1]], paragraph[:-1]])
    texts = batch["text"].to_pylist()
    if backend.token_to_id(" ") is not None:
        joints = np.select([new_document, new_paragraph], ["", "\n"], " ").tolist()
        texts = [joint + text for joint, text in zip(joints, texts, strict=True)]
    encoded = [e.ids for e in backend.encode_batch_fast(texts, add_special_tokens=False)]
    closing = new_document & ~((total == 0) & (np.arange(len(document)) == 0))  # no document precedes the first
    starts = total + np.cumsum([0, *map(len, encoded[:-1])]) + np.cumsum(closing)
    pieces = [([sep_id] if close else []) + ids for close, ids in zip(closing, encoded, strict=True)]
    not_empty = np.array([len(ids) > 0 for ids in encoded])
    return np.concatenate([np.asarray(ids, dtype) for ids in pieces]), {
        "documents": starts[new_document], "paragraphs": starts[new_paragraph], "sentences": starts[not_empty]}
