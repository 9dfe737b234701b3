"""TF-IDF: its words are those of scripts with spaces, and the pieces of the tokenizer elsewhere."""
import numpy as np
import pandas as pd
import pytest

from study import StudyError
from study.config.schema import Tokenizer
from study.data.wordpiece import save, train_wordpiece
from study.evaluation.baselines import in_other_script, write_baselines

# Two words that tell the class, and others. Only one of the first two is in a text, at a random place.
WORDS = {
    "latin": (" ", ["good", "bad"], ["film", "story", "actor", "scene", "plot", "end"]),
    "chinese": ("", ["好", "坏"], list("电影故事演员")),
    "hindi": (" ", ["दे", "दि"], ["कल", "घर", "फल", "जल", "बस", "रथ"]),
    "thai": ("", ["ดี", "ดุ"], ["กา", "ขา", "มา", "นา", "ลา", "ปา"]),
}


def rows(separator: str, of_class: list[str], others: list[str], count: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    texts = []
    for number in range(count):
        words = rng.choice(others, 12).tolist()
        words.insert(rng.integers(12), of_class[number % 2])
        texts.append(separator.join(words))
    return pd.DataFrame({"text": texts, "label": np.arange(count) % 2})


@pytest.fixture
def with_rows(study, tmp_path):
    """A function that puts rows into the corpus folder of the tiny study, and the tokenizer that they give."""
    def make(train: pd.DataFrame, test: pd.DataFrame):
        other = study.model_copy(update={"folder": tmp_path})
        (other.runs / "corpus").mkdir(parents=True)
        (other.runs / "examples").mkdir()
        for split, frame in (("train", train), ("test", test)):
            frame.to_parquet(other.runs / f"corpus/probe-topic-{split}.parquet")
        settings = Tokenizer(source="train", vocabulary_size=90, lowercase=True, strip_accents=False, min_frequency=9,
                             word_splitting="spaceless-characters")
        save(train_wordpiece(settings, lambda: train.text), other.runs / "tokenizer")
        return other
    return make


@pytest.mark.parametrize("script", WORDS)
def test_a_word_that_tells_the_class_is_found_in_every_script(with_rows, script):
    train, test = (rows(*WORDS[script], count, seed) for count, seed in ((80, 0), (60, 1)))
    study = with_rows(train, test)
    assert write_baselines(study, study.runs / "examples")["topic"]["tfidf"]["accuracy"] == 1
    assert in_other_script(train.text) is (script != "latin")


def test_a_few_characters_of_another_script_change_nothing():
    assert not in_other_script(["a film of 王家卫 which nobody in the audience had seen before"])


@pytest.mark.parametrize("texts", [["!", "?"], ["a", "b"], ["", ""]])
def test_texts_without_words_name_the_task(with_rows, texts):
    frame = pd.DataFrame({"text": texts * 20, "label": [0, 1] * 20})
    study = with_rows(frame, frame)
    with pytest.raises(StudyError, match="params.yaml: probe.tasks: topic: the training texts have no words"):
        write_baselines(study, study.runs / "examples")
