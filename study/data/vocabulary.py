"""Vocabularies that exist: a vocab.txt, a tokenizer.json, a folder with one of them, or an id of the hub."""
from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from study import StudyError
from study.config.schema import Tokenizer
from study.data.sources import can_reach_hub, data_folder

FILES = ("tokenizer.json", "vocab.txt")     # in a folder; the first says what kind of tokenizer it is
MOST_CASED = 0.01                           # share of pieces with upper case above which a vocabulary is cased


@dataclass(frozen=True)
class Vocabulary:
    """Pieces in the order of their ids. lowercase: whether the tokenizer that they come from lowercases; None if it is
    not known."""
    pieces: list[str]
    lowercase: bool | None = None


def existing_vocabulary(source: str, root: Path) -> Vocabulary:
    """Returns the vocabulary in a file or folder under `root` or data/, else that of an id on the hub.

    Raises StudyError if it cannot be loaded or is no WordPiece vocabulary.
    """
    places = (root, data_folder(root))
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
    if source.endswith((".txt", ".json")) or _is_path(source, places):
        raise StudyError(f"tokenizer.source {source}: no such file or folder, neither here nor under "
                         f"{data_folder(root)}")
    return _of_hub(source)


def _is_path(source: str, places: Iterable[Path]) -> bool:
    """Whether a source is a path and no id of the hub, which is `name` or `owner/name`. The name of a folder is not
    sent to the hub: it may be private."""
    first, *others = Path(source).parts
    return source.startswith(".") or len(others) > 1 or bool(others) and any((place / first).is_dir()
                                                                             for place in places)


def case_warnings(settings: Tokenizer, vocabulary: Vocabulary) -> list[str]:
    """Returns a warning if the vocabulary was made for text in another case than `lowercase` makes."""
    words = [piece for piece in vocabulary.pieces if not (piece.startswith("[") and piece.endswith("]"))]
    cased = sum(piece != piece.lower() for piece in words)
    where = f"tokenizer.source {settings.source}"
    if settings.lowercase and cased > MOST_CASED * len(words):
        return [f"{where}: {cased:,} of {len(words):,} pieces have upper-case letters, which `lowercase: true` never "
                f"makes; set lowercase to false, or take an uncased vocabulary"]
    if not settings.lowercase and vocabulary.lowercase:
        return [f"{where}: its tokenizer lowercases the text, and `lowercase: false` does not; set lowercase to true"]
    return []


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
    return Vocabulary(_ordered(backend.get_vocab(), str(path)), (content.get("normalizer") or {}).get("lowercase"))


def _check_wordpiece(content: dict, where: str) -> None:
    """Raises StudyError unless this is the content of a tokenizer.json of a WordPiece tokenizer, as BERT's."""
    kind, prefix = content["model"].get("type"), content["model"].get("continuing_subword_prefix")
    if kind != "WordPiece" or prefix != "##":
        raise StudyError(f"{where}: a {kind} tokenizer{f' with the prefix {prefix!r}' if prefix else ''}; this project "
                         f"needs WordPiece with the prefix '##', so train one with tokenizer.source: train (or words, "
                         f"or characters)")


def _of_hub(source: str) -> Vocabulary:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=not can_reach_hub())
    except (OSError, ValueError) as error:
        raise StudyError(f"tokenizer.source {source}: no such vocab.txt here, and no tokenizer of this id could be "
                         f"loaded from the hub ({type(error).__name__}); check the id and the connection, or put its "
                         f"vocab.txt under data/{Path(source).name}/") from None
    if backend := getattr(tokenizer, "backend_tokenizer", None):
        _check_wordpiece(json.loads(backend.to_str()), f"tokenizer.source {source}")
    return Vocabulary(_ordered(tokenizer.get_vocab(), f"tokenizer.source {source}"),
                      getattr(tokenizer, "do_lower_case", None))


def _ordered(ids: dict[str, int], where: str) -> list[str]:
    """The pieces in the order of their ids, which must be 0, 1, ..."""
    pieces = sorted(ids, key=ids.get)
    if gap := next((number for number, piece in enumerate(pieces) if ids[piece] != number), None):
        raise StudyError(f"{where}: no piece has the id {gap}; ids must be 0, 1, ... without a gap")
    return pieces
