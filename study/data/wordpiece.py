"""The tokenizer stage: WordPiece vocabularies, trained on the training split or taken from an existing word list.

Saved with `vocab.txt`, `tokenizer.json` and `tokenizer_config.json`, so that `transformers.AutoTokenizer` loads it.
"""
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from study import StudyError
from study.config.made_with import MADE_WITH, write_made_with
from study.config.schema import Tokenizer
from study.config.study import Study
from study.data.corpus import data_folder
from study.data.tokenizer import SPECIALS


def write_tokenizer(study: Study, folder: Path, progress=lambda items, **_: items) -> int:
    """Builds the study's tokenizer from its corpus and saves it in `folder`; returns the size of the vocabulary."""
    corpus = study.runs / "corpus"
    if not (corpus / "train.parquet").exists():
        raise StudyError(f"{corpus / 'train.parquet'}: no corpus; run `study corpus` (or `dvc repro`) first")
    lexicon = corpus / "lexicon.txt"
    words = lexicon.read_text().splitlines() if lexicon.exists() else None
    backend = build_tokenizer(study.settings.tokenizer, lambda: _training_text(corpus, progress), words, study.root)
    save(backend, folder)
    write_made_with(study, "tokenizer", folder / MADE_WITH)
    return backend.get_vocab_size()


def _training_text(corpus: Path, progress) -> Iterator[str]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(corpus / "train.parquet")
    batches = file.iter_batches(batch_size=10_000, columns=["text"])
    for batch in progress(batches, total=-(-file.metadata.num_rows // 10_000), description="tokenizer"):
        yield from batch["text"].to_pylist()


def build_tokenizer(settings: Tokenizer, text: Callable[[], Iterable[str]], lexicon: list[str] | None, root: Path):
    """Returns the `tokenizers.Tokenizer` that the settings describe.

    text: a function that returns the sentences of the training split; called only if a vocabulary is trained.
    lexicon: words of the synthetic corpus, None for other text. Raises StudyError if the source cannot be loaded or
    lacks a special token.
    """
    if settings.source == "train":
        return train_wordpiece(settings, text)
    if settings.source == "lexicon":
        if lexicon is None:
            raise StudyError("tokenizer.source: lexicon is the synthetic corpus's word list; for text use train, a "
                             "vocab.txt or a hub id")
        pieces = [*SPECIALS, *lexicon]
    else:
        pieces = _existing_vocabulary(settings.source, root)
    if missing := [special for special in SPECIALS if special not in pieces]:
        raise StudyError(f"tokenizer.source {settings.source}: the vocabulary lacks {', '.join(missing)}")
    if repeated := [piece for piece, count in Counter(pieces).items() if count > 1]:
        raise StudyError(f"tokenizer.source {settings.source}: {repeated[0]!r} appears twice; the line number is the "
                         f"id, so every piece must appear once")
    return wordpiece({piece: index for index, piece in enumerate(pieces)}, settings.lowercase)


def train_wordpiece(settings: Tokenizer, text: Callable[[], Iterable[str]]):
    """Returns a tokenizer with a vocabulary trained on `text`; the same text gives the same vocabulary.

    The library numbers the pieces '##x' in the order of a hash table that differs between processes, and breaks ties
    between equally frequent pairs by those numbers (huggingface/tokenizers#1794). So they are passed as if they were
    special tokens, which are numbered first, in the given order. Special tokens have ids 0 to 4.
    """
    from tokenizers import trainers

    backend = wordpiece({}, settings.lowercase)
    numbered = [*SPECIALS, *_continuations(backend, text())]
    trainer = trainers.WordPieceTrainer(vocab_size=settings.vocabulary_size, min_frequency=settings.min_frequency,
                                        special_tokens=numbered, show_progress=False)
    backend.train_from_iterator(text(), trainer)
    return wordpiece(backend.get_vocab(with_added_tokens=False), settings.lowercase)


def _continuations(backend, text: Iterable[str]) -> list[str]:
    """The pieces '##x' of all characters that occur in a word after its first character, sorted."""
    characters: set[str] = set()
    for word in {word for sentence in text for word in sentence.split()}:
        for part, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(word)):
            characters.update(part[1:])
    return [f"##{character}" for character in sorted(characters)]


def wordpiece(vocabulary: dict[str, int], lowercase: bool):
    """Returns BERT's tokenizer with this vocabulary. An empty vocabulary gives one that is ready to be trained."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(list(SPECIALS))
    if vocabulary:
        cls, sep = (("[CLS]", backend.token_to_id("[CLS]")), ("[SEP]", backend.token_to_id("[SEP]")))
        backend.post_processor = processors.BertProcessing(sep, cls)
    return backend


def _existing_vocabulary(source: str, root: Path) -> list[str]:
    """Pieces in the order of their ids, from a vocab.txt (or its folder) under `root` or data/, else from the hub."""
    for path in (root / source, data_folder(root) / source):
        if path.is_dir():
            path = path / "vocab.txt"
        if path.is_file():
            return path.read_text(encoding="utf-8").splitlines()
    if source.endswith(".txt"):
        raise StudyError(f"tokenizer.source {source}: no such file, neither here nor under {data_folder(root)}")
    return _hub_vocabulary(source)


def _hub_vocabulary(source: str) -> list[str]:
    from transformers import AutoTokenizer

    try:
        vocabulary = AutoTokenizer.from_pretrained(source, trust_remote_code=False).get_vocab()
    except (OSError, ValueError) as error:
        raise StudyError(f"tokenizer.source {source}: no such vocab.txt here, and the hub cannot be reached "
                         f"({type(error).__name__}); put its vocab.txt under data/{Path(source).name}/") from None
    return sorted(vocabulary, key=vocabulary.get)


def save(backend, folder: Path) -> None:
    """Writes the tokenizer so that `transformers.AutoTokenizer.from_pretrained(folder)` gives the same ids."""
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    vocabulary = sorted(backend.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece, _ in vocabulary), encoding="utf-8")
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    config = {"tokenizer_class": "BertTokenizerFast", "do_lower_case": backend.normalizer.lowercase, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
