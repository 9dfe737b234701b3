"""Summaries of made-up data, as the stages write them."""
from study.config.study import Study
from tests.support.fake_results import write_content

SPLIT = {"documents": 1200, "words": 34000, "duplicates": 3, "shortest": 1, "longest": 90, "empty": 2}
ROWS = {"rows": 40, "words": 400, "duplicates": 0, "shortest": 2, "longest": 20, "empty": 0, "in_corpus": 0}
TOKENS = {"tokens": 50000, "documents": 1200, "unknown": 600, "shorter_than_row": 7, "longest": 140}
WARNING = "1 of 1,200 (0.1%) documents of the split <test> are in the training text too"
SUMMARIES = {
    "corpus": {"splits": {"train": SPLIT, "validation": SPLIT | {"in_training": 0}, "test": SPLIT | {"in_training": 1}},
               "tasks": {"topic": {"train": ROWS | {"labels": [["one|two", 31], ["three", 9]]},
                                   "test": ROWS | {"labels": [["one|two", 20], ["three", 20]],
                                                     "in_training": 4}}},
               "warnings": [WARNING]},
    "tokenizer": {"vocabulary": 8000, "sentences": 50000, "words": 1, "pieces": 60000, "written_unknown": 0,
                  "unknown": 1234, "longest_word": 31, "pieces_per_word": 1.25, "warnings": ["Unknown pieces"]},
    "examples": {"splits": dict.fromkeys(("train", "validation", "test"), TOKENS), "pairs": True,
                 "warnings": [WARNING]},
}


def write_task_summary(study: Study) -> None:
    """Writes the summary of the fine-tuning task topic."""
    splits = {split: {key: value for key, value in facts.items() if key != "in_corpus"}
              for split, facts in SUMMARIES["corpus"]["tasks"]["topic"].items()}
    write_content(study.runs / "tasks/topic/summary.json", {"splits": splits, "warnings": ["Few <rows>"]})


def write_summaries(study: Study) -> None:
    """Writes the summary.json of each stage."""
    for stage, content in SUMMARIES.items():
        write_content(study.runs / stage / "summary.json", content)
