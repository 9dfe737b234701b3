"""The files with which `sentence-transformers` gives the vectors that this project probes.

Mean pooling here is over the tokens of a text, without [CLS] and [SEP] (study/evaluation/embedding.py). That library's
mean includes them. Its module WordWeights weights each token before the mean, so with the weight 0 for [CLS] and [SEP]
the vectors are the same, unless a text itself contains [CLS] or [SEP].
"""
from __future__ import annotations

from pathlib import Path

from study.files import write_json

MODULES = ("Transformer", "WordWeights", "Pooling")
UNPOOLED = ("[CLS]", "[SEP]")


def write_sentence_modules(folder: Path, vocabulary: list[str], hidden_size: int) -> None:
    """Writes modules.json and the settings of its modules to the folder of an exported model.

    vocabulary: the pieces in the order of their ids.
    """
    paths = ["" if number == 0 else f"{number}_{name}" for number, name in enumerate(MODULES)]
    write_json(folder / "modules.json", [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (name, path) in enumerate(zip(MODULES, paths, strict=True))])
    write_json(folder / paths[1] / "config.json", {
        "vocab": vocabulary, "word_weights": dict.fromkeys(UNPOOLED, 0.0), "unknown_word_weight": 1.0},
        ensure_ascii=False)
    write_json(folder / paths[2] / "config.json", {
        "word_embedding_dimension": hidden_size, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False})
