"""Made-up results of minimal pairs and token identity, for a study of fake_arms.py or fake_results.py."""
import json

import numpy as np

from study.config.arms import resolve
from study.config.study import Study
from study.files import save_arrays
from tests.support.fake_results import write_content
from tests.support.minimal_pairs import with_pairs

PHENOMENA = ("agreement", "binding")
PARADIGMS = ("a-1", "a-2", "b-1", "b-2")    # two of each phenomenon
PAIRS = 30                                  # of each paradigm
DOCUMENTS = 20
LEVELS = {"word-frequency": 0.5, "bigram": 0.6}
LAYERS = 3


def with_further(text: str) -> str:
    """The tiny study's params.yaml with both measures."""
    return with_pairs(text)


def read_by(arm: str) -> float:
    """The share of visible tokens that is read from the last layer of an arm: all-mask loses them."""
    return 0.7 if arm == "all-mask" else 0.9


def right_by(arm: str) -> float:
    """The accuracy of an arm on minimal pairs."""
    return 0.55 if arm == "absolute-positions" else 0.7


def add_further(study: Study) -> None:
    """Adds both measures to the files of every cell, and writes what the baselines reach on the pairs."""
    level = {name: {"accuracy": value, "by_phenomenon": {
        phenomenon: {"accuracy": value, "pairs": 2 * PAIRS} for phenomenon in PHENOMENA}}
        for name, value in LEVELS.items()}
    write_content(study.runs / "examples/minimal_pairs.json", {"order": level})
    for arm, seed in study.cells:
        folder, rng = study.cell(arm, seed), np.random.default_rng([seed, len(arm)])
        evaluation = json.loads((folder / "evaluation.json").read_text())
        with np.load(folder / "evaluation.npz") as file:
            arrays = dict(file)
        pairs, more = _pairs(arm, rng) if resolve(study, arm).objective.token_objective == "mlm" else ({}, {})
        identity, others = _identity(arm, rng)
        write_content(folder / "evaluation.json", evaluation | {"minimal_pairs": pairs, "token_identity": identity})
        save_arrays(arrays | more | others, folder / "evaluation.npz")


def _pairs(arm: str, rng: np.random.Generator) -> tuple[dict, dict]:
    paradigm = np.repeat(PARADIGMS, PAIRS)
    difficulty = np.random.default_rng(0).random(len(paradigm)) + 0.05 * rng.normal(size=len(paradigm))
    correct = np.where(difficulty < right_by(arm), 1.0, 0.0)
    correct[0] = 0.5
    phenomenon = np.repeat(PHENOMENA, 2 * PAIRS)
    section = {"pairs": len(correct), "accuracy": float(correct.mean()), "ties": 1 / len(correct),
               "by_phenomenon": {name: {"accuracy": float(correct[phenomenon == name].mean()), "pairs": 2 * PAIRS}
                                 for name in PHENOMENA}}
    return {"order": section}, {"pairs/order/correct": correct.astype(np.float32),
                                "pairs/order/phenomenon": phenomenon, "pairs/order/paradigm": paradigm}


def _identity(arm: str, rng: np.random.Generator) -> tuple[dict, dict]:
    tokens = np.full(DOCUMENTS, 30, np.int32)
    arrays = {"token_identity/tokens": tokens, "token_identity/documents": np.arange(DOCUMENTS, dtype=np.int32)}
    shares: dict[str, list[float]] = {"trained": [], "untrained": []}
    for encoder, last in (("trained", read_by(arm)), ("untrained", 1.0)):
        for layer in range(LAYERS):
            right = rng.binomial(30, 1 + (last - 1) * layer / (LAYERS - 1), DOCUMENTS)
            arrays[f"token_identity/{encoder}/layer-{layer}"] = right.astype(np.int32)
            shares[encoder].append(float(right.sum() / tokens.sum()))
    return {"train_tokens": 600, "tokens": int(tokens.sum()), "layers": shares}, arrays
