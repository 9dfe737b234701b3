"""The fixed evaluation sets of a study: rows, masks and pairs, made once, saved and hashed.

Every arm is scored on the same rows under the same masks. Rows are windows inside single held-out documents. Sets:

    mask_only      15 %, all shown as [MASK]: the headline        mixed         15 %, 80/10/10
    whole_word     15 %, all pieces of a word, all [MASK]         span          15 %, spans of 3 words, all [MASK]
    mask_only_40   40 %, all [MASK]

For the synthetic language each set carries the exact Bayes-optimal NLL of every selected token.
"""
from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study import StudyError, randomness
from study.config.load import Study
from study.config.schema import Masking, Synthetic
from study.data.batches import Rows, gather
from study.data.corpus import SPLITS, synthetic_language
from study.data.examples import Spans, TokenStore, pair_layout, single_layout, write_store
from study.data.masking import MASK, mask_rows
from study.data.references import neighbour_nll
from study.data.tokenizer import load
from study.data.tokenizer_info import TokenizerInfo
from study.files import write_atomically, write_json

_ALL_MASK = {"mask": 1.0, "random": 0.0, "keep": 0.0}
_MIXED = {"mask": 0.8, "random": 0.1, "keep": 0.1}
SETS = {"mask_only": (0.15, _ALL_MASK, "token"), "mixed": (0.15, _MIXED, "token"),
        "whole_word": (0.15, _ALL_MASK, "whole-word"), "span": (0.15, _ALL_MASK, "span"),
        "mask_only_40": (0.40, _ALL_MASK, "token")}


INNER = slice(1, -1)                        # of a row: without [CLS] and [SEP]


@dataclass(frozen=True)
class MaskSet:
    """One set of masks over the rows: `shown` (N, T) ids, `kind` (N, T) uint8, `floor` (S,) nats or None."""
    shown: np.ndarray
    corruption: np.ndarray
    floor: np.ndarray | None


@dataclass(frozen=True)
class EvaluationSet:
    """A fixed evaluation set: true `ids` (N, T), `unigram` (V,) nats a token, mask sets, and pairs for NSP and SOP."""
    ids: np.ndarray
    sets: dict[str, MaskSet]
    pairs: dict[str, Rows]
    unigram: np.ndarray
    hash: str


def masking_of(name: str) -> Masking:
    """The masking of one evaluation set."""
    rate, mix, selection = SETS[name]
    return Masking(mlm_probability=rate, selection=selection, span_mean=3.0, schedule="dynamic", dupe_factor=1, **mix)


def document_windows(store: TokenStore, length: int, rows: int, limit: int | None, seed: int) -> tuple:
    """(starts, offsets in the document), both (N,), of `rows` windows of length - 2 tokens inside single documents.

    Windows lie within the first `limit` tokens of a document when it is given; there a synthetic document's end has
    told nothing yet. Raises StudyError when no document is long enough.
    """
    size = length - 2
    usable = store.document_ends - store.documents[:-1]
    usable = usable if limit is None else np.minimum(usable, limit)
    count = usable // size
    offset = (np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)) * size
    starts = np.repeat(store.documents[:-1], count) + offset
    if not len(starts):
        raise StudyError(f"examples.max_seq_length {length}: no held-out document has {size} tokens; choose a shorter length")
    chosen = np.sort(randomness.permutation(seed, randomness.SUBSET, len(starts))[:rows])
    return starts[chosen], offset[chosen]


def build_evaluation_set(study: Study, store: TokenStore, train: TokenStore, tokenizer: TokenizerInfo, rows: int) -> dict:
    """Arrays of one evaluation set, as `save_heldout` writes them."""
    settings, corpus = study.settings.examples, study.settings.corpus
    limit = corpus.document_tokens if isinstance(corpus, Synthetic) else None
    starts, offsets = document_windows(store, settings.max_seq_length, rows, limit, settings.seed)
    spans = Spans(starts, np.full(len(starts), settings.max_seq_length - 2))
    ids = gather(store.ids, spans, settings.max_seq_length, tokenizer, padded=False).ids
    arrays = {"ids": ids.astype(np.int32), "unigram": unigram_nll(train, tokenizer)}
    for name in SETS:
        masked = mask_rows(ids, tokenizer.is_ordinary[ids], ~tokenizer.is_continuation[ids], tokenizer,
                           masking_of(name), settings.seed, 0, np.arange(len(ids)))
        arrays |= {f"{name}/shown": masked.shown.astype(np.int32), f"{name}/kind": masked.corruption}
        if isinstance(corpus, Synthetic):
            arrays[f"{name}/floor"] = synthetic_floor(corpus, ids, masked.shown, masked.corruption, offsets,
                                                      masking_of(name), tokenizer)
    for task, swap in (("nsp", False), ("sop", True)):
        layout = pair_layout(store, "segment-pairs", settings.max_seq_length, swap)
        example = np.sort(randomness.permutation(settings.seed, randomness.SUBSET, len(layout))[:settings.pair_rows])
        pairs = gather(store.ids, layout.spans(np.zeros_like(example), example, settings.seed), settings.max_seq_length,
                       tokenizer, padded=True)
        arrays |= {f"{task}/ids": pairs.ids.astype(np.int32), f"{task}/types": pairs.token_type_ids.astype(np.uint8),
                   f"{task}/attention": pairs.attention_mask, f"{task}/label": pairs.label.astype(np.uint8)}
    return arrays


def unigram_nll(train: TokenStore, tokenizer: TokenizerInfo) -> np.ndarray:
    """-ln P(token) (V,) from the training counts of ordinary tokens, one added to each; infinite for the others."""
    counts = np.zeros(tokenizer.vocabulary_size)
    for begin in range(0, len(train.ids), 1 << 22):
        counts += np.bincount(train.ids[begin:begin + (1 << 22)], minlength=len(counts))[:len(counts)]
    counts = np.where(tokenizer.is_ordinary, counts + 1, 0)
    with np.errstate(divide="ignore"):
        return -np.log(counts / counts.sum())


def synthetic_floor(corpus: Synthetic, ids: np.ndarray, shown: np.ndarray, kind: np.ndarray, offsets: np.ndarray,
                    masking: Masking, tokenizer: TokenizerInfo) -> np.ndarray:
    """Bayes-optimal NLL (S,) of the selected tokens, nats, row-major. Token ids are words: WordPiece never splits."""
    from study.data.synthetic import MASKED

    language = synthetic_language(corpus)
    truth, selected = _words(ids, tokenizer), kind[:, INNER] != 0
    seen = np.where(kind[:, INNER] == MASK, MASKED, _words(shown, tokenizer))
    nll, _ = language.floor(truth, seen, selected, offsets, masking.mlm_probability, masking.keep, masking.random)
    return nll.round(12) + 0.0              # another machine's last bit, or its -0, is no other evaluation set


def content_hash(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and values: the same whatever compressed the file."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_arrays(arrays: dict[str, np.ndarray], path: Path) -> None:
    """A compressed .npz without time stamps, members in the order of their names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            info = zipfile.ZipInfo(f"{name}.npy")
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(arrays[name]), allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def load_evaluation_set(path: Path) -> EvaluationSet:
    """The evaluation set in a file. Raises StudyError when it is not there or cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise StudyError(f"{path}: no usable evaluation set ({error}); run `study examples` again") from None
    sets = {name: MaskSet(arrays[f"{name}/shown"].astype(np.int64), arrays[f"{name}/kind"],
                          arrays.get(f"{name}/floor")) for name in SETS}
    pairs = {task: Rows(arrays[f"{task}/ids"].astype(np.int64), arrays[f"{task}/types"].astype(np.int64),
                        arrays[f"{task}/attention"], arrays[f"{task}/label"].astype(np.int64))
             for task in ("nsp", "sop")}
    return EvaluationSet(arrays["ids"].astype(np.int64), sets, pairs, arrays["unigram"], content_hash(arrays))


def write_examples(study: Study, folder: Path, progress=lambda items, **_: items) -> dict:
    """Token stores of all splits, the fixed evaluation sets and the references; returns references.json's content."""
    backend = load(study.runs / "tokenizer")
    tokenizer = TokenizerInfo.of(backend)
    for split in SPLITS:
        write_store(study.runs / "corpus" / f"{split}.parquet", backend, tokenizer.sep_id, folder / split, progress)
    train = TokenStore.open(folder / "train")
    headline = {}
    references: dict = {"vocabulary": len(tokenizer.ordinary), "tokens": {}, "hash": {}, "floors": {},
                        "unigram": {}}
    for split, rows in (("validation", study.settings.examples.validation_rows),
                        ("test", study.settings.examples.test_rows)):
        store = TokenStore.open(folder / split)
        arrays = build_evaluation_set(study, store, train, tokenizer, rows)
        save_arrays(arrays, folder / f"{split}.npz")
        headline[split] = (arrays["ids"], arrays["mask_only/shown"], arrays["mask_only/kind"])
        truth = arrays["ids"][arrays["mask_only/kind"] > 0]
        references["unigram"][split] = float(np.exp(arrays["unigram"][truth].mean()))        # perplexity
        references["hash"][split] = content_hash(arrays)
        references["tokens"][split] = {name: int((arrays[f"{name}/kind"] > 0).sum()) for name in SETS}
        references["tokens"][split]["unknown_share"] = float((arrays["ids"] == tokenizer.unk_id).mean())
        if isinstance(study.settings.corpus, Synthetic):
            references["floors"][split] = floors(arrays)
    if isinstance(study.settings.corpus, Synthetic):
        references["contexts"] = context_floors(study, arrays, TokenStore.open(folder / "test"), tokenizer)
    nll = neighbour_nll(train.ids, arrays["unigram"], headline["validation"], headline["test"], tokenizer.mask_id)
    references["neighbours"] = {"nll": nll, "perplexity": float(np.exp(nll))}
    references["train"] = {"tokens": len(train.ids), "documents": len(train.documents) - 1,
                           "rows": len(single_layout(train, "full-sentences", study.settings.examples.max_seq_length))}
    write_json(folder / "references.json", references, sort_keys=True)
    return references


WINDOWS = (1, 2, 4, 8)                      # words on each side
EACH = 4                                    # a context floor is estimated on every fourth row


def context_floors(study: Study, arrays: dict[str, np.ndarray], store: TokenStore,
                   tokenizer: TokenizerInfo) -> dict[str, float]:
    """Best perplexity on the headline set of the synthetic corpus when so many words are seen on each side: that on
    every row, estimated from every fourth by what it lies above the floor there."""
    settings, corpus = study.settings.examples, study.settings.corpus
    _, offsets = document_windows(store, settings.max_seq_length, len(arrays["ids"]), corpus.document_tokens, settings.seed)
    word, selected = _words(arrays["ids"], tokenizer), arrays["mask_only/kind"][:, INNER] != 0
    some, floor = np.arange(len(word)) % EACH == 0, arrays["mask_only/floor"]
    among = some[np.nonzero(selected)[0]]       # of the selected tokens, those in these rows
    language = synthetic_language(corpus)
    return {str(window): float(np.exp(floor.mean() + (
        language.context_floor(word[some], selected[some], offsets[some], window) - floor[among]).mean()))
        for window in WINDOWS}


def _words(ids: np.ndarray, tokenizer: TokenizerInfo) -> np.ndarray:
    """Word ids of the synthetic language in rows (N, T - 2), without [CLS] and [SEP]; -1 for what is no word."""
    word = np.full(tokenizer.vocabulary_size, -1)
    word[tokenizer.ordinary] = np.arange(len(tokenizer.ordinary))
    return word[ids[:, INNER]]


def floors(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Best possible NLL and perplexity of each mask set of the synthetic corpus, with the NLL's standard error."""
    result = {}
    for name in SETS:
        nll = arrays[f"{name}/floor"]
        result[name] = {"nll": float(nll.mean()), "error": float(nll.std(ddof=1) / np.sqrt(len(nll))),
                        "perplexity": float(np.exp(nll.mean()))}
    return result
