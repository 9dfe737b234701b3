"""Vocabularies as they are published, scripts without spaces, and documents shorter than a row."""
import json
from pathlib import Path

import pytest

from study.data.characters import character_tokenizer
from study.data.evaluation_sets import load_evaluation_set
from study.data.wordpiece import save
from tests.support.bad_input import edited, settings_project, text_project, written
from tests.support.inputs import (
    Accepted,
    Refused,
    check,
    every,
    pieces,
    situations,
    summary,
    task_rows,
    text_files,
    warned,
)

SPECIALS = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
THAI = "ภาษาไทยไม่มีช่องว่างระหว่างคำที่นี่ดีมาก"
CHINESE = "我们喜欢北京的冬天"
JAPANESE = "カタカナとひらがなと漢字"
STAGES = {"tokenizer": ("corpus", "tokenizer"), "examples": ("corpus", "tokenizer", "examples")}


def lines(*texts: str, **tokenizer):
    """A corpus of these documents, one per line, many times over."""
    text = "".join(f"{text}\n" for text in texts) * 40
    return every(text_files({"train.txt": text}, text, "txt"), edited("tokenizer", **tokenizer))


def vocabulary(content: str | bytes, name: str = "words.txt", **tokenizer):
    """An existing vocabulary."""
    return every(written(name, content), edited("tokenizer", source=name.split("/")[0], **tokenizer))


def tokenizer_json(model: dict, **rest) -> str:
    return json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
                       "pre_tokenizer": None, "post_processor": None, "decoder": None} | rest | {"model": model})


def wordpiece_model(words: str, **rest) -> dict:
    ids = {piece: index for index, piece in enumerate((SPECIALS + words).split())}
    return {"type": "WordPiece", "vocab": ids, "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100} | rest


def saved_characters(root: Path) -> None:
    """The folder of a tokenizer of characters, as the stage writes it."""
    ids = {piece: index for index, piece in enumerate((SPECIALS + LETTERS).split())}
    save(character_tokenizer(ids, lowercase=True), root / "pieces")


def vocabulary_size(root: Path) -> int:
    return summary("tokenizer", "vocabulary")(root)


def unknown(root: Path) -> int:
    return summary("tokenizer", "unknown")(root)


LETTERS = "\n".join("abcdefghijklmnopqrstuvwxyz.") + "\n" + "\n".join(f"##{x}" for x in "abcdefghijklmnopqrstuvwxyz")
FEW = LETTERS.replace("##e\n", "").replace("##i\n", "")
UMLAUTS = f"{LETTERS}\n" + "\n".join(f"{letter}\n##{letter}" for letter in "äöüß")
GERMAN = "Größere Häuser schützen"
HINDI = "यह हिन्दी का एक छोटा सा पाठ है और इसमें मात्राएँ हैं"
BERTS_LOWERCASE = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
                   "lowercase": True}
TOKENIZERS = [
    ("line separators are pieces", vocabulary(f"{SPECIALS}\u2028\n\u0085\n\x1c\n{LETTERS}\n"),
     Accepted(vocabulary_size, 61)),
    ("a byte-order mark", vocabulary(b"\xef\xbb\xbf" + f"{SPECIALS}{LETTERS}\n".encode()), Accepted(unknown, 0)),
    ("blank lines at the end", vocabulary(f"{SPECIALS}{LETTERS}\n\n\n"), Accepted(vocabulary_size, 58)),
    ("no line feed at the end", vocabulary(f"{SPECIALS}{LETTERS}"), Accepted(vocabulary_size, 58)),
    ("lines of Windows", vocabulary(f"{SPECIALS}{LETTERS}\n".replace("\n", "\r\n")), Accepted(unknown, 0)),
    ("a cased vocabulary", vocabulary(f"{SPECIALS}{LETTERS}\nParis\nRome\n", lowercase=True),
     Accepted(warned("tokenizer", "2 of 55 pieces have upper-case letters, which `lowercase: true` never makes"),
              True)),
    ("an uncased vocabulary", vocabulary(f"{SPECIALS}{LETTERS}\n", lowercase=True),
     Accepted(warned("tokenizer", "upper-case"), False)),
    ("a cased vocabulary for cased text", vocabulary(f"{SPECIALS}{LETTERS}\nParis\n", lowercase=False),
     Accepted(warned("tokenizer", "case"), False)),
    ("a folder with vocab.txt", vocabulary(f"{SPECIALS}{LETTERS}\n", "pieces/vocab.txt"), Accepted(unknown, 0)),
    ("a folder with tokenizer.json", vocabulary(tokenizer_json(wordpiece_model(LETTERS)), "pieces/tokenizer.json"),
     Accepted(unknown, 0)),
    ("a folder with both", every(written("pieces/vocab.txt", f"{SPECIALS}a\n"), vocabulary(
        tokenizer_json(wordpiece_model(LETTERS)), "pieces/tokenizer.json")), Accepted(vocabulary_size, 58)),
    ("a tokenizer.json", vocabulary(tokenizer_json(wordpiece_model(LETTERS)), "words.json"), Accepted(unknown, 0)),
    ("a tokenizer.json that lowercases", vocabulary(
        tokenizer_json(wordpiece_model(LETTERS), normalizer=BERTS_LOWERCASE), "words.json", lowercase=False),
     Accepted(warned("tokenizer", "its tokenizer lowercases the text, and `lowercase: false` does not"), True)),
    ("a tokenizer.json that keeps accents", vocabulary(
        tokenizer_json(wordpiece_model(LETTERS), normalizer=BERTS_LOWERCASE | {"strip_accents": False}), "words.json"),
     Accepted(warned("tokenizer", "its tokenizer keeps accents, and the settings do not; set strip_accents to false"),
              True)),
    ("a tokenizer.json with accents", every(lines(GERMAN), vocabulary(
        tokenizer_json(wordpiece_model(UMLAUTS), normalizer=BERTS_LOWERCASE | {"strip_accents": False}), "words.json",
        strip_accents=False)), Accepted(summary("tokenizer", "warnings"), [])),
    ("a vocabulary with accents", vocabulary(f"{SPECIALS}{UMLAUTS}\n"),
     Accepted(warned("tokenizer", "6 of 61 pieces have accents or other marks, which the settings remove"), True)),
    ("a vocabulary with accents that stay", every(lines(GERMAN), vocabulary(f"{SPECIALS}{UMLAUTS}\n",
                                                                            strip_accents=False)),
     Accepted(pieces("Größe"), ["g", "##r", "##ö", "##ß", "##e"])),
    ("a tokenizer.json that ends words elsewhere", vocabulary(
        tokenizer_json(wordpiece_model(LETTERS), pre_tokenizer={"type": "Whitespace"}), "words.json"),
     Accepted(warned("tokenizer", "ends words in another way (Whitespace) than `word_splitting: bert`"), True)),
    ("few known words", every(vocabulary(f"{SPECIALS}{FEW}\n"), edited("corpus", quote=True)),
     Accepted(warned("tokenizer", "of the pieces of the training text are [UNK] (most often '"), True)),
    ("words that may not be quoted", every(vocabulary(f"{SPECIALS}{FEW}\n"), edited("corpus", quote=False)),
     Accepted(warned("tokenizer", "most often"), False)),
    ("unknown words of the text itself", lines("some [UNK] words", "more [UNK] words"),
     Accepted(warned("tokenizer", "most of them because the text itself says so"), True)),
    ("Thai without splitting", lines(THAI, THAI[::-1], max_word_characters=10), Accepted(pieces(THAI), ["[UNK]"])),
    ("Thai that is a small share of the pieces", lines(*[f"{'a b c ' * 90}{THAI}"] * 2, max_word_characters=10,
                                                        vocabulary_size=200),
     Accepted(warned("tokenizer", "0.4% of the pieces of the training text are [UNK] and hold 12.9% of its characters"),
              True)),
    ("Thai whose characters are words", lines(THAI, word_splitting="spaceless-characters", strip_accents=False,
                                              vocabulary_size=200),
     Accepted(warned("tokenizer", "of the training text"), False)),
    ("rows of a task in another script", task_rows({"text": [THAI] * 40, "label": [0, 1] * 20}),
     Accepted(warned("tokenizer", "100.0% of the pieces of the test rows of topic are [UNK]"), True)),
    ("rows of a task in the script of the text", task_rows({"text": ["abe dein"] * 40, "label": [0, 1] * 20}),
     Accepted(warned("tokenizer", "rows of topic"), False)),
    ("vowel signs that go with accents", lines(HINDI, vocabulary_size=200),
     Accepted(warned("tokenizer", "`lowercase: true` also removes accents, and with them vowel signs"), True)),
    ("vowel signs that stay", lines(HINDI, vocabulary_size=200, strip_accents=False),
     Accepted(warned("tokenizer", "vowel signs"), False)),
    ("vowel signs that go on purpose", lines(HINDI, vocabulary_size=200, strip_accents=True),
     Accepted(warned("tokenizer", "vowel signs"), False)),
    ("accents of other scripts", lines("Café naïve", vocabulary_size=200),
     Accepted(warned("tokenizer", "vowel signs"), False)),
    ("Thai with longer words", lines(THAI, THAI[::-1], max_word_characters=200, strip_accents=False,
                                     vocabulary_size=1000), Accepted(pieces(THAI), [THAI])),
    ("Thai by character", lines(THAI, word_splitting="spaceless-characters", strip_accents=False, vocabulary_size=200),
     Accepted(pieces("ไม่มี ok"), ["ไ", "ม่", "มี", "[UNK]"])),
    ("vowel signs go with accents", lines(THAI, word_splitting="spaceless-characters", vocabulary_size=200),
     Accepted(pieces("ไม่มี"), ["ไ", "ม", "ม"])),
    ("accents stay", lines("Café naïve", strip_accents=False, vocabulary_size=200), Accepted(pieces("CAFÉ"), ["café"])),
    ("accents go", lines("Café naïve", strip_accents=True, lowercase=False, vocabulary_size=200),
     Accepted(pieces("Café"), ["Cafe"])),
    ("Chinese in words", lines(CHINESE, word_splitting="spaces", vocabulary_size=200), Accepted(pieces(CHINESE),
                                                                                                [CHINESE])),
    ("Chinese in characters", lines(CHINESE, vocabulary_size=200), Accepted(pieces(CHINESE), list(CHINESE))),
    ("Japanese as BERT has it", lines(JAPANESE, vocabulary_size=200),
     Accepted(pieces(JAPANESE), ["カタカナとひらかなと", "漢", "字"])),
    ("Japanese by character", lines(JAPANESE, word_splitting="spaceless-characters", strip_accents=False,
                                    vocabulary_size=200), Accepted(pieces(JAPANESE), list(JAPANESE))),
    ("all by character", lines("made up words", word_splitting="characters", vocabulary_size=200),
     Accepted(pieces("made up"), list("madeup"))),
    ("refused blank line", vocabulary(f"{SPECIALS}a\n\nb\n"), Refused("words.txt: line 7 is blank")),
    ("a missing folder below one that is there", every(vocabulary(f"{SPECIALS}a\n", "pieces/vocab.txt"),
                                                       edited("tokenizer", source="pieces/mine")),
     Refused("tokenizer.source pieces/mine: no such file or folder")),
    ("refused encoding", vocabulary("caf\xe9\n".encode("latin-1")), Refused("words.txt: not UTF-8 text")),
    ("padding in another place", vocabulary(f"a\n{SPECIALS}b\n"), Refused("[PAD] has id 1; move it to the first line")),
    ("a folder with both that this project wrote of characters", every(
        saved_characters, edited("tokenizer", source="pieces")),
     Refused("tokenizer.json: a WordLevel tokenizer; this project needs WordPiece with the prefix '##', so train one "
             "with tokenizer.source: train (or words, or characters)")),
    ("byte pairs", vocabulary(tokenizer_json({"type": "BPE", "vocab": {"a": 0}, "merges": []}), "words.json"),
     Refused("words.json: a BPE tokenizer; this project needs WordPiece with the prefix '##'")),
    ("another prefix", vocabulary(tokenizer_json(wordpiece_model("a", continuing_subword_prefix="@@")), "words.json"),
     Refused("a WordPiece tokenizer with the prefix '@@'")),
    ("a gap in the ids", vocabulary(tokenizer_json(wordpiece_model("a", vocab={"[PAD]": 0, "a": 2, "[UNK]": 3})),
                                    "words.json"),
     Refused("no piece has the id 1")),
    ("not a tokenizer", vocabulary("{}", "words.json"), Refused("words.json: not a tokenizer.json")),
    ("a folder without a vocabulary", vocabulary("{}", "pieces/config.json"),
     Refused("pieces has no tokenizer.json and no vocab.txt; it has config.json")),
    ("a source with a slip", edited("tokenizer", source="trian"),
     Refused("tokenizer.source trian: no such file or folder, neither here nor under")),
    ("a folder with a slip", every(vocabulary(f"{SPECIALS}a\n", "pieces/vocab.txt"),
                                   edited("tokenizer", source="peices")), Refused("Did you mean pieces?")),
    ("a name without an owner", edited("tokenizer", source="private"),
     Refused("Choose train, words, characters, lexicon, a vocab.txt, a tokenizer.json, a folder with one, or an id of "
             "the hub as owner/name")),
    ("an id without a connection", edited("tokenizer", source="owner/name"),
     Refused("no connection, and it is not in the cache")),
    ("no such json", edited("tokenizer", source="nowhere.json"), Refused("nowhere.json: no such file")),
]
HEADLINES = [f"headline {number} says little." for number in range(300)]


def headlines(*arms: str, length: int = 16, **examples):
    """Documents of one sentence each."""
    text = "\n".join(HEADLINES)
    return every(text_files({"train.txt": text}, text, "txt"), edited("examples", max_seq_length=length, **examples),
                 edited(None, arms=["dynamic", *arms]))


def rows_with_borders(root: Path) -> bool:
    """Whether the evaluation rows have [SEP] inside, between documents, and none of it is masked."""
    test = load_evaluation_set(root / "runs/tiny/examples/test.npz")
    inside = test.ids[:, 1:-1] == test.ids[0, -1]
    return bool(inside.any()) and not (test.sets["mask_only"].corruption[:, 1:-1][inside] > 0).any()


def row_length(root: Path) -> int:
    return load_evaluation_set(root / "runs/tiny/examples/test.npz").ids.shape[1]


def has_pairs(root: Path) -> bool:
    return bool(load_evaluation_set(root / "runs/tiny/examples/test.npz").pairs)


SHORT = [
    ("short documents in whole windows", headlines(), Refused(
        "examples.max_seq_length 16: no held-out document has 14 tokens; choose a smaller length or, with real "
        "text, set examples.windows to text")),
    ("windows over documents", headlines(windows="text"), Accepted(rows_with_borders, True)),
    ("no pairs for arms without them", headlines(windows="text"), Accepted(has_pairs, False)),
    ("no pairs are a warning", headlines(windows="text"),
     Accepted(warned("examples", "no arm is scored on pairs of segments. The text has no segment-pairs: these need two "
                                 "sentences in a row in one document, and a second document"), True)),
    ("an arm that cannot be built", headlines("mlm-pairs", "mlm-nsp", windows="text"),
     Refused("arms: mlm-pairs, mlm-nsp cannot be built from the split train (the text has no segment-pairs: ")),
    ("rows of 8 tokens", edited("examples", max_seq_length=8), Accepted(row_length, 8)),
    ("rows of 12 tokens", edited("examples", max_seq_length=12), Accepted(row_length, 12)),
    ("pairs in rows of 8 tokens", edited("examples", max_seq_length=8), Accepted(has_pairs, True)),
    ("longer than the text", every(headlines(windows="text"), edited("examples", max_seq_length=8000)),
     Refused("the held-out text has only")),
    ("short documents are counted", headlines(windows="text"),
     Accepted(summary("examples", "splits", "test", "shorter_than_row"), 300)),
    ("nothing can be masked", every(lines(*[THAI[:number] for number in range(24, 34)], max_word_characters=10),
                                    edited("examples", windows="text")),
     Refused("the evaluation rows have 0 tokens that could be masked, and")),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("scripts") / "base"
    text_project(root)
    for change in (edited("examples", max_seq_length=16), edited(None, arms=["dynamic"]),
                   edited("search", arms=["dynamic"])):
        change(root)
    return root


@pytest.mark.parametrize(("make", "outcome"), situations(TOKENIZERS))
def test_vocabularies_and_scripts(project, tmp_path, capsys, make, outcome):
    check(tmp_path / "root", project, make, outcome, capsys, *STAGES["tokenizer"])


@pytest.mark.parametrize(("make", "outcome"), situations(SHORT))
def test_short_documents(project, tmp_path, capsys, make, outcome):
    check(tmp_path / "root", project, make, outcome, capsys, *STAGES["examples"])


def test_windows_of_the_built_in_language_stay_in_a_document(tmp_path, capsys):
    settings_project(tmp_path / "base")
    check(tmp_path / "root", tmp_path / "base", edited("examples", windows="text"),
          Refused("examples.windows text needs real text"), capsys, "corpus")
