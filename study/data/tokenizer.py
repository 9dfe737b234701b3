"""WordPiece tokenizers: trained on the training split, the synthetic corpus's words, or an existing vocabulary.

Saved with `vocab.txt`, `tokenizer.json` and `tokenizer_config.json`, so that `transformers.AutoTokenizer` loads it.
"""
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from study import StudyError
from study.config.load import Study
from study.config.schema import Tokenizer

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def build(settings: Tokenizer, text: Iterable[str], lexicon: list[str] | None, root: Path):
    """A `tokenizers.Tokenizer` as the settings ask.

    text: sentences of the training split, read only when a vocabulary is trained. Raises StudyError when the source
    cannot be had or lacks a special token.
    """
    if settings.source == "train":
        return _trained(settings, text)
    if settings.source == "lexicon":
        if lexicon is None:
            raise StudyError("tokenizer.source: lexicon is the synthetic corpus's word list; for text use train, a "
                             "vocab.txt or a hub id")
        words = [*SPECIALS, *lexicon]
    else:
        words = _existing(settings.source, root)
    if missing := [special for special in SPECIALS if special not in words]:
        raise StudyError(f"tokenizer.source {settings.source}: the vocabulary lacks {', '.join(missing)}")
    if repeated := [word for word, count in Counter(words).items() if count > 1]:
        raise StudyError(f"tokenizer.source {settings.source}: {repeated[0]!r} stands twice; a line is an id, so "
                         f"every word must stand once")
    return _wordpiece({word: index for index, word in enumerate(words)}, settings.lowercase)


def _wordpiece(vocabulary: dict[str, int], lowercase: bool):
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


def _trained(settings: Tokenizer, text: Iterable[str]):
    from tokenizers import trainers

    backend = _wordpiece({}, settings.lowercase)
    trainer = trainers.WordPieceTrainer(vocab_size=settings.vocabulary_size, min_frequency=settings.min_frequency,
                                        special_tokens=list(SPECIALS), show_progress=False)
    backend.train_from_iterator(text, trainer)
    return _wordpiece(backend.get_vocab(with_added_tokens=False) | {s: i for i, s in enumerate(SPECIALS)},
                      settings.lowercase)


def _existing(source: str, root: Path) -> list[str]:
    from study.data.corpus import data_folder

    for path in (root / source, data_folder(root) / source):
        if path.is_dir():
            path = path / "vocab.txt"
        if path.is_file():
            return path.read_text(encoding="utf-8").splitlines()
    if source.endswith(".txt"):
        raise StudyError(f"tokenizer.source {source}: no such file, neither here nor under {data_folder(root)}")
    return _from_hub(source)


def _from_hub(source: str) -> list[str]:
    from transformers import AutoTokenizer

    try:
        vocabulary = AutoTokenizer.from_pretrained(source, trust_remote_code=False).get_vocab()
    except (OSError, ValueError) as error:
        raise StudyError(f"tokenizer.source {source}: no such vocab.txt here, and the hub cannot be reached "
                         f"({type(error).__name__}); put its vocab.txt under data/{Path(source).name}/") from None
    return sorted(vocabulary, key=vocabulary.get)


def write_tokenizer(study: Study, folder: Path, progress=lambda items, **_: items) -> int:
    """Builds and saves the study's tokenizer from its corpus; returns the size of the vocabulary."""
    corpus = study.runs / "corpus"
    if not (corpus / "train.parquet").exists():
        raise StudyError(f"{corpus / 'train.parquet'}: no corpus; run `study corpus` (or `dvc repro`) first")
    lexicon = corpus / "lexicon.txt"
    words = lexicon.read_text().splitlines() if lexicon.exists() else None
    backend = build(study.settings.tokenizer, _training_text(corpus, progress), words, study.root)
    save(backend, folder)
    return backend.get_vocab_size()


def _training_text(corpus: Path, progress) -> Iterator[str]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(corpus / "train.parquet")
    batches = file.iter_batches(batch_size=10_000, columns=["text"])
    for batch in progress(batches, total=-(-file.metadata.num_rows // 10_000), description="tokenizer"):
        yield from batch["text"].to_pylist()


def save(backend, folder: Path) -> None:
    """Writes the tokenizer so that `transformers.AutoTokenizer.from_pretrained(folder)` gives the same ids."""
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    vocabulary = sorted(backend.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in vocabulary), encoding="utf-8")
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    config = {"tokenizer_class": "BertTokenizerFast", "do_lower_case": backend.normalizer.lowercase, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def load(folder: Path):
    """The `tokenizers.Tokenizer` in `folder`. Raises StudyError when there is none."""
    from tokenizers import Tokenizer as Backend

    path = folder / "tokenizer.json"
    if not path.exists():
        raise StudyError(f"{path}: no tokenizer; run `study tokenizer` (or `dvc repro`) first")
    try:
        return Backend.from_file(str(path))
    except Exception as error:              # the library raises nothing narrower
        raise StudyError(f"{path}: damaged ({error}); run `study tokenizer` (or `dvc repro`) again") from None
