"""Vocabularies that exist: a vocab.txt, a tokenizer.json, a folder with one of them, or an id of the hub."""
from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from study import StudyError
from study.data.hub import can_reach_hub, check_hub_cache, is_cached, quiet_client
from study.data.sources import data_folder

FILES = ("tokenizer.json", "vocab.txt")     # in a folder; the first says what kind of tokenizer it is
SOURCES = ("train", "words", "characters", "lexicon")       # values of tokenizer.source that need no vocabulary
# Ids of the hub without an owner. Other names without one may be those of private folders, and are not sent there.
WITHOUT_OWNER = ("bert-base-uncased", "bert-base-cased", "bert-large-uncased", "bert-large-cased", "bert-base-chinese",
                 "bert-base-german-cased", "bert-base-multilingual-cased", "bert-base-multilingual-uncased")
WITH_OWNER = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
SIMILAR = 0.8                               # of 1: two names that may be one with a slip


@dataclass(frozen=True)
class Vocabulary:
    """Pieces in the order of their ids. tokenizer: the content of the tokenizer.json that they come from, as far as it
    is known."""
    pieces: list[str]
    tokenizer: dict = field(default_factory=dict)


def existing_vocabulary(source: str, root: Path) -> Vocabulary:
    """Returns the vocabulary in a file or folder under `root` or data/, else that of an id on the hub.

    Raises StudyError if it cannot be loaded, if it is no WordPiece vocabulary, or if the source is neither there nor an
    id of the hub. Only ids are sent to the hub: the name of a folder may be private.
    """
    places = [root, data_folder(root)]
    for path in (place / source for place in places):
        if path.is_dir():
            files = [path / name for name in FILES if (path / name).is_file()]
            if not files:
                names = sorted(file.name for file in path.iterdir())[:5]
                raise StudyError(f"tokenizer.source {source}: {path} has no {' and no '.join(FILES)}; it has "
                                 f"{', '.join(names) or 'no files'}")
            path = files[0]
        if path.is_file():
            return _of_json(path) if path.suffix == ".json" else Vocabulary(read_word_list(path))
    _check_id(source, places)
    return _of_hub(source)


def _check_id(source: str, places: list[Path]) -> None:
    """Raises StudyError unless a source that is not in these places is an id of the hub."""
    if source in WITHOUT_OWNER:
        return
    first, *others = Path(source).parts or ("",)
    folders = [path.name for place in places if place.is_dir() for path in place.iterdir() if path.is_dir()]
    known = [*folders, *(() if others else (*SOURCES, *WITHOUT_OWNER))]
    similar = difflib.get_close_matches(first if others else source.lower(), known, n=1, cutoff=SIMILAR)
    if WITH_OWNER.fullmatch(source) and not source.endswith((".txt", ".json")) and not similar:
        return
    name = "/".join([*similar, *others]) if similar else ""
    meant = f" Did you mean {name}?" if name not in ("", source) else ""
    raise StudyError(f"tokenizer.source {source}: no such file or folder, neither here nor under {places[-1]}.{meant} "
                     f"Choose {', '.join(SOURCES)}, a vocab.txt, a tokenizer.json, a folder with one, or an id of the "
                     f"hub as owner/name")


def read_word_list(path: Path) -> list[str]:
    """Returns the lines of a vocab.txt. Only line feeds end them: other separators, such as U+2028, are pieces.

    Raises StudyError if the file is no text, or if a line is blank.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    pieces = [line.removesuffix("\r") for line in text.split("\n")]
    while pieces and not pieces[-1]:
        pieces.pop()
    if "" in pieces:
        raise StudyError(f"{path}: line {pieces.index('') + 1} is blank; the line number is the id, so every "
                         f"line needs a piece")
    return pieces


def _of_json(path: Path) -> Vocabulary:
    """The pieces of a tokenizer.json. The settings decide how text is split into words."""
    from tokenizers import Tokenizer as Backend

    try:
        backend = Backend.from_file(str(path))
        content = json.loads(path.read_text(encoding="utf-8"))
    except Exception as error:              # the library raises nothing narrower
        raise StudyError(f"{path}: not a tokenizer.json ({' '.join(str(error).split())[:100]}); save the tokenizer "
                         f"again with save_pretrained") from None
    _check_wordpiece(content, str(path))
    return Vocabulary(_ordered(backend.get_vocab(), str(path)), content)


def _check_wordpiece(content: dict, where: str) -> None:
    """Raises StudyError unless this is the content of a tokenizer.json of a WordPiece tokenizer, as BERT's."""
    kind, prefix = content["model"].get("type"), content["model"].get("continuing_subword_prefix")
    if kind != "WordPiece" or prefix != "##":
        raise StudyError(f"{where}: a {kind} tokenizer{f' with the prefix {prefix!r}' if prefix else ''}; this project "
                         f"needs WordPiece with the prefix '##', so train one with tokenizer.source: train (or words, "
                         f"or characters)")


def _of_hub(source: str) -> Vocabulary:
    quiet_client()
    reachable = can_reach_hub()
    if not reachable and not is_cached(source):         # `transformers` takes seconds to import
        raise _not_loaded(source, "no connection, and it is not in the cache")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=not reachable)
    except (OSError, ValueError) as error:
        raise _not_loaded(source, type(error).__name__) from None
    content = {}
    if backend := getattr(tokenizer, "backend_tokenizer", None):
        content = json.loads(backend.to_str())
        _check_wordpiece(content, f"tokenizer.source {source}")
    return Vocabulary(_ordered(tokenizer.get_vocab(), f"tokenizer.source {source}"), content)


def _not_loaded(source: str, reason: str) -> StudyError:
    """The error about an id of the hub. Raises StudyError if the reason is that files cannot be kept."""
    check_hub_cache()
    name = Path(source).name
    return StudyError(f"tokenizer.source {source}: no such vocab.txt here, and no tokenizer of this id could be loaded "
                      f"from the hub ({reason}); check the id and the connection, or put its vocab.txt under "
                      f"data/{name}/ and set tokenizer.source to {name}")


def _ordered(ids: dict[str, int], where: str) -> list[str]:
    """The pieces in the order of their ids, which must be 0, 1, ..."""
    pieces = sorted(ids, key=ids.get)
    gap = next((number for number, piece in enumerate(pieces) if ids[piece] != number), None)
    if gap is not None:
        raise StudyError(f"{where}: no piece has the id {gap}; ids must be 0, 1, ... without a gap")
    return pieces
