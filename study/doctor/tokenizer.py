"""A tokenizer of any kind, reduced to what the doctor needs: how to encode lines, and which ids are special."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from study import StudyError
from study.data.hub import can_reach_hub
from study.data.tokenizer import TokenizerInfo

BATCH_LINES = 5000                          # lines encoded at once
NAMES = {"mask": ("[MASK]", "<mask>"), "pad": ("[PAD]", "<pad>"), "unk": ("[UNK]", "<unk>"),
         "cls": ("[CLS]", "<s>"), "sep": ("[SEP]", "</s>")}


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer. `size` V: one more than the largest id. `special`: ids of mask, pad, unk, cls and sep, None where it
    has none. `ordinary` (O,): ids of pieces of text, without special and unused entries. `encode`: lines -> ids of
    each line, without special tokens."""
    name: str
    size: int
    special: dict[str, int | None]
    ordinary: np.ndarray
    encode: Callable[[Sequence[str]], list[Sequence[int]]]

    @property
    def boundary(self) -> int:
        """An id of its own for the ends of lines and rows, so that every tokenizer has one."""
        return self.size

    @cached_property
    def is_ordinary(self) -> np.ndarray:
        """Returns (V,) bool."""
        return np.isin(np.arange(self.size), self.ordinary)

    @cached_property
    def info(self) -> TokenizerInfo:
        """The same for study/data, with ids of its own for the ends of lines and for [MASK]: V and V + 1."""
        unknown = self.boundary if self.special["unk"] is None else self.special["unk"]
        return TokenizerInfo(self.size + 2, self.boundary, unknown, self.boundary, self.boundary, self.size + 1,
                             self.ordinary, np.zeros(self.size + 2, bool))


@dataclass(frozen=True)
class EncodedText:
    """`ids` (tokens,): all lines with a boundary after each. `lengths` (lines,): tokens of each line."""
    ids: np.ndarray
    lengths: np.ndarray


def encode_lines(vocabulary: Vocabulary, lines: Sequence[str],
                 progress: Callable = lambda items, **_: items) -> EncodedText:
    """Returns the lines as token ids."""
    parts, lengths = [], []
    for begin in progress(range(0, len(lines), BATCH_LINES), description="tokenizing"):
        for ids in vocabulary.encode(lines[begin:begin + BATCH_LINES]):
            parts.append(np.array([*ids, vocabulary.boundary], np.int32))
            lengths.append(len(ids))
    return EncodedText(np.concatenate(parts), np.array(lengths))


def load_vocabulary(name: str) -> Vocabulary:
    """The tokenizer in a folder, a tokenizer.json or a vocab.txt, or that of an id on the Hugging Face hub.

    Raises StudyError if it is missing or damaged. Code from the hub is never executed.
    """
    path = Path(name)
    if path.is_dir() and (path / "tokenizer_config.json").is_file():
        return _from_transformers(name)
    if path.is_dir():
        files = [path / file for file in ("tokenizer.json", "vocab.txt") if (path / file).is_file()]
        if not files:
            raise StudyError(f"{path}: no tokenizer.json, tokenizer_config.json or vocab.txt; save the tokenizer there "
                             f"with save_pretrained")
        path = files[0]
    if path.suffix == ".json" and path.is_file():
        return _from_tokenizers(path)
    if path.suffix == ".txt" and path.is_file():
        return _from_word_list(path)
    if path.suffix in (".json", ".txt") or path.is_absolute() or name.startswith("."):
        raise StudyError(f"{path}: no such tokenizer; name a folder, a tokenizer.json, a vocab.txt or a hub id")
    return _from_transformers(name)


def _from_transformers(name: str) -> Vocabulary:
    from transformers import AutoTokenizer

    is_folder = Path(name).is_dir()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False,
                                                  local_files_only=not is_folder and not can_reach_hub())
    except Exception as error:              # the library raises many kinds, and wraps those of the network
        if is_folder:
            raise StudyError(f"{name}: not a usable tokenizer ({_first_line(error)}); save it again with "
                             f"save_pretrained") from None
        raise StudyError(f"{name}: no such folder here, and no tokenizer of this id could be loaded from the Hugging "
                         f"Face hub ({type(error).__name__}); check the id and the connection, or save the tokenizer "
                         f"to a folder with save_pretrained and name the folder") from None
    special = {kind: getattr(tokenizer, f"{kind}_token_id", None) for kind in NAMES}
    if backend := getattr(tokenizer, "backend_tokenizer", None):
        encode = _encoder(backend)
    else:
        def encode(lines):
            return tokenizer(list(lines), add_special_tokens=False, verbose=False)["input_ids"]
    return _vocabulary(name, tokenizer.get_vocab(), special, tokenizer.all_special_ids, encode)


def _from_tokenizers(path: Path) -> Vocabulary:
    from tokenizers import Tokenizer

    try:
        backend = Tokenizer.from_file(str(path))
        added = json.loads(path.read_text(encoding="utf-8")).get("added_tokens") or []
    except Exception as error:              # the library raises nothing narrower
        raise StudyError(f"{path}: not a usable tokenizer ({_first_line(error)}); save it again") from None
    special = {kind: next((id for id in map(backend.token_to_id, names) if id is not None), None)
               for kind, names in NAMES.items()}
    return _vocabulary(str(path), backend.get_vocab(), special, [token["id"] for token in added if token["special"]],
                       _encoder(backend))


def _from_word_list(path: Path) -> Vocabulary:
    from study.data.vocabulary import read_word_list
    from study.data.wordpiece import wordpiece

    pieces = read_word_list(path)
    ids = {piece: index for index, piece in enumerate(pieces)}
    if "[UNK]" not in ids:
        raise StudyError(f"{path}: no [UNK]; a vocab.txt has one piece per line and needs [UNK], [CLS], [SEP], [PAD] "
                         f"and [MASK]")
    special = {kind: ids.get(names[0]) for kind, names in NAMES.items()}
    lowercase = not any(piece != piece.lower() for piece in pieces if not _is_bracketed(piece))
    return _vocabulary(str(path), ids, special, [], _encoder(wordpiece(ids, lowercase)))


def _encoder(backend) -> Callable[[Sequence[str]], list[Sequence[int]]]:
    backend.no_truncation()
    backend.no_padding()
    return lambda lines: [encoding.ids for encoding in backend.encode_batch_fast(list(lines), add_special_tokens=False)]


def _vocabulary(name: str, entries: dict[str, int], special: dict[str, int | None], also_special: Iterable[int],
                encode: Callable) -> Vocabulary:
    if not entries:
        raise StudyError(f"{name}: an empty vocabulary; train the tokenizer first")
    excluded = {index for index in (*special.values(), *also_special) if index is not None}
    excluded |= {index for piece, index in entries.items() if _is_bracketed(piece)}
    ordinary = np.array(sorted(set(entries.values()) - excluded), np.int64)
    if len(ordinary) < 2:
        raise StudyError(f"{name}: a vocabulary of {len(entries)} entries, {len(ordinary)} of them ordinary; train the "
                         f"tokenizer first")
    return Vocabulary(name, max(entries.values()) + 1, special, ordinary, encode)


def _is_bracketed(piece: str) -> bool:
    """Whether a piece is an entry such as [MASK] or [unused12]."""
    return piece.startswith("[") and piece.endswith("]") and len(piece) > 2


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
