"""The tokenizer stage: WordPiece vocabularies, trained on the training split or taken from an existing word list, and
whole words (words.py) or characters (characters.py).

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
from study.data.characters import train_characters
from study.data.token_summary import tokenizer_summary
from study.data.tokenizer import PAD_ID, SPECIALS
from study.data.vocabulary import existing_vocabulary
from study.data.vocabulary_checks import vocabulary_warnings
from study.data.word_splitting import pre_tokenizer
from study.data.words import train_words
from study.files import write_json

LONGEST_WORD = 100                          # characters, in BERT


def write_tokenizer(study: Study, folder: Path, progress=lambda items, **_: items) -> int:
    """Builds the study's tokenizer from its corpus and saves it in `folder`; returns the size of the vocabulary."""
    corpus = study.runs / "corpus"
    if not (corpus / "train.parquet").exists():
        raise StudyError(f"{corpus / 'train.parquet'}: no corpus; run `study corpus` (or `dvc repro`) first")
    lexicon = corpus / "lexicon.txt"
    words = lexicon.read_text().splitlines() if lexicon.exists() else None
    warnings: list[str] = []
    backend = build_tokenizer(study.settings.tokenizer, lambda: _training_text(corpus, progress), words, study.root,
                              warnings)
    save(backend, folder)
    write_json(folder / "summary.json", tokenizer_summary(study, backend, warnings), ensure_ascii=False)
    write_made_with(study, "tokenizer", folder / MADE_WITH)
    return backend.get_vocab_size()


def _training_text(corpus: Path, progress) -> Iterator[str]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(corpus / "train.parquet")
    batches = file.iter_batches(batch_size=10_000, columns=["text"])
    for batch in progress(batches, total=-(-file.metadata.num_rows // 10_000), description="tokenizer"):
        yield from batch["text"].to_pylist()


def build_tokenizer(settings: Tokenizer, text: Callable[[], Iterable[str]], lexicon: list[str] | None, root: Path,
                    warnings: list[str] | None = None):
    """Returns the `tokenizers.Tokenizer` that the settings describe.

    text: a function that returns the sentences of the training split; called only if a vocabulary is trained.
    lexicon: words of the synthetic corpus, None for other text. What a reader should know about an existing vocabulary
    is appended to `warnings`. Raises StudyError if the source cannot be loaded or is unusable.
    """
    if settings.source == "train":
        return train_wordpiece(settings, text)
    if settings.source == "words":
        return train_words(settings, text())
    if settings.source == "characters":
        return train_characters(settings, text())
    vocabulary = None
    if settings.source == "lexicon":
        if lexicon is None:
            raise StudyError("tokenizer.source: lexicon is the synthetic corpus's word list; for text use train, a "
                             "vocab.txt or a hub id")
        pieces = [*SPECIALS, *lexicon]
    else:
        vocabulary = existing_vocabulary(settings.source, root)
        pieces = vocabulary.pieces
    _check_pieces(settings, pieces)
    backend = wordpiece({piece: index for index, piece in enumerate(pieces)}, settings.lowercase, **_forms(settings))
    if vocabulary is not None and warnings is not None:
        warnings += vocabulary_warnings(settings, vocabulary, backend)
    return backend


def _check_pieces(settings: Tokenizer, pieces: list[str]) -> None:
    """Raises StudyError unless every piece has one id, and the special tokens have those that the project needs."""
    if missing := [special for special in SPECIALS if special not in pieces]:
        raise StudyError(f"tokenizer.source {settings.source}: the vocabulary lacks {', '.join(missing)}")
    if repeated := [piece for piece, count in Counter(pieces).items() if count > 1]:
        raise StudyError(f"tokenizer.source {settings.source}: {repeated[0]!r} appears twice; the line number is the "
                         f"id, so every piece must appear once")
    if pieces[PAD_ID] != "[PAD]":
        raise StudyError(f"tokenizer.source {settings.source}: [PAD] has id {pieces.index('[PAD]')}; move it to the "
                         f"first line, since the models that `study export` writes need it at id {PAD_ID}")


def _forms(settings: Tokenizer) -> dict:
    """How the settings form words, as arguments of `wordpiece`."""
    return {"strip_accents": settings.strip_accents, "splitting": settings.word_splitting,
            "longest": settings.max_word_characters}


def train_wordpiece(settings: Tokenizer, text: Callable[[], Iterable[str]]):
    """Returns a tokenizer with a vocabulary trained on `text`; the same text gives the same vocabulary.

    The library numbers the pieces '##x' in the order of a hash table that differs between processes, and breaks ties
    between equally frequent pairs by those numbers (huggingface/tokenizers#1794). So they are passed as if they were
    special tokens, which are numbered first, in the given order. Special tokens have ids 0 to 4. Raises StudyError if
    the characters of the text alone are more than `vocabulary_size`, which the library ignores.
    """
    from tokenizers import trainers

    backend = wordpiece({}, settings.lowercase, **_forms(settings))
    numbered = [*SPECIALS, *_continuations(backend, text())]
    trainer = trainers.WordPieceTrainer(vocab_size=settings.vocabulary_size, min_frequency=settings.min_frequency,
                                        special_tokens=numbered, show_progress=False)
    backend.train_from_iterator(text(), trainer)
    vocabulary = backend.get_vocab(with_added_tokens=False)
    if len(vocabulary) > settings.vocabulary_size:
        raise StudyError(f"tokenizer.source train: the characters of the text and the special tokens need "
                         f"{len(vocabulary)} pieces, more than tokenizer.vocabulary_size {settings.vocabulary_size}; "
                         f"raise it")
    return wordpiece(vocabulary, settings.lowercase, **_forms(settings))


def _continuations(backend, text: Iterable[str]) -> list[str]:
    """The pieces '##x' of all characters that occur in a word after its first character, sorted."""
    characters: set[str] = set()
    for word in {word for sentence in text for word in sentence.split()}:
        for part, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(word)):
            characters.update(part[1:])
    return [f"##{character}" for character in sorted(characters)]


def wordpiece(vocabulary: dict[str, int], lowercase: bool, strip_accents: bool | None = None, splitting: str = "bert",
              longest: int = LONGEST_WORD):
    """Returns BERT's tokenizer with this vocabulary. An empty vocabulary gives one that is ready to be trained.

    strip_accents: None for BERT's rule, as `lowercase`. splitting: as Tokenizer.word_splitting. longest: characters of
    a word; longer ones become [UNK].
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers, processors

    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=longest))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents,
                                                    handle_chinese_chars=splitting != "spaces")
    backend.pre_tokenizer = pre_tokenizer(splitting)
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(list(SPECIALS))
    if vocabulary:
        cls, sep = (("[CLS]", backend.token_to_id("[CLS]")), ("[SEP]", backend.token_to_id("[SEP]")))
        backend.post_processor = processors.BertProcessing(sep, cls)
    return backend


def save(backend, folder: Path) -> None:
    """Writes the tokenizer so that `transformers.AutoTokenizer.from_pretrained(folder)` gives the same ids.

    vocab.txt has a piece per line, in the order of the ids; a line end among characters is written as \\n.
    """

    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    vocabulary = sorted(backend.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{_on_one_line(piece)}\n" for piece, _ in vocabulary),
                                     encoding="utf-8")
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    # `transformers` 5 makes a BertTokenizer from its pieces alone, and knows only BERT's way of finding words
    config = ({"tokenizer_class": "BertTokenizerFast", "do_lower_case": backend.normalizer.lowercase}
              if _is_berts(backend) else {"tokenizer_class": "PreTrainedTokenizerFast"}) | names
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def _is_berts(backend) -> bool:
    """Whether a tokenizer finds words and pieces as BERT's does."""
    normalizer, kinds = backend.normalizer, (backend.model, backend.normalizer, backend.pre_tokenizer)
    if [type(part).__name__ for part in kinds] != ["WordPiece", "BertNormalizer", "BertPreTokenizer"]:
        return False
    return (normalizer.strip_accents is None and normalizer.handle_chinese_chars
            and backend.model.max_input_chars_per_word == LONGEST_WORD)


def _on_one_line(piece: str) -> str:
    return piece.replace("\n", "\\n")
