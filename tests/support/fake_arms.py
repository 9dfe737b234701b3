"""Result files of a study of many arms that was never trained, with made-up effects. fake_results.py has two arms."""
import hashlib
import json

import numpy as np

from study.analysis.registration import register_claims
from study.config.arms import resolve
from study.config.fingerprint import settings_yaml
from study.config.made_with import FINETUNED_WITH, write_made_with
from study.config.study import Study
from study.files import save_arrays
from tests.support.fake_results import (
    REFERENCE_ACCURACY,
    TUNED,
    UNIGRAM_NLL,
    write_content,
    write_evaluation,
    write_params,
    write_shared_files,
    write_training,
)
from tests.support.studies import ROOT

NEVER_ESCAPES = "absolute-positions"        # this arm fails the learning gate
NAME = "wikitext2"
MANY = ["dynamic", "dynamic-reseeded", "untrained", NEVER_ESCAPES, "all-mask", "pre-ln", "mlm-pairs", "mlm-nsp",
        "mix-80-0-20", "mix-80-20-0", "dynamic-few", "static-few", "whole-word", "short-first-half", "span", "rate-40",
        "pre-ln-no-warmup", "document-sentences", "static-10-few", "short-first-quarter", "predict-quarter",
        "half-depth", "mlm-sop", "mix-0-100-0", "no-embedding-norm", "linear-decoder", "dropout-few", "all-mask-40"]
SEEDS = [10, 11, 12, 13, 14]
STEPS = 400
ROWS = 400                                  # of the probe's test set


def many_arms(folder, arms: list[str] | None = None, change=lambda text: text, tenths: int = 2) -> Study:
    """A study named wikitext2 in `folder` with five seeds, registered claims and these arms, or 28 arms of every
    factor; `change` edits its params.yaml. tenths: groups of tokens by frequency."""
    (folder / "experiments").mkdir(parents=True)
    for name in ("arms.yaml", "claims.yaml"):
        (folder / "experiments" / name).write_text((ROOT / "experiments" / name).read_text())
    study = write_params(folder, NAME, arms or MANY, SEEDS, change)
    study.runs.mkdir(parents=True)
    write_shared_files(study)
    register_claims(study)
    for arm, seed in study.cells:
        _write_cell(study, arm, seed, tenths)
        if arm in study.settings.finetune.arms:
            write_finetune(study, arm, seed)
    return study


def write_finetune(study: Study, arm: str, seed: int) -> None:
    """finetune.json, finetune.npz and the record of their settings. Each size and recipe of the study has two runs."""
    recipe, label = study.settings.finetune.recipe, np.arange(ROWS).astype(np.uint8) % 4
    scores, arrays = {"labels": ["a", "b", "c", "d"], "rows": {"train": 120, "test": ROWS}, "majority": 0.25}, {}
    shifts = {"trained": 0.0, "untrained": -0.3} | dict.fromkeys(study.settings.finetune.variants, 0.05)
    for name, shift in shifts.items():
        scores[name] = {}
        for place, size in enumerate(recipe.train_sizes):
            noise, level = 0.08 - 0.04 * place, 0.6 + 0.1 * place - 0.3 * effect(arm) + shift
            shares = [level + noise * _number(arm, seed, size, run) for run in range(2)]
            rows = [np.where(np.random.default_rng([seed, run]).random(ROWS) < share, label, (label + 1) % 4)
                    for run, share in enumerate(shares)]
            arrays[f"topic/{size}/{name}/predicted"] = np.stack(rows).astype(np.uint8)
            right = [float((row == label).mean()) for row in rows]
            runs = [{"rate": recipe.learning_rates[place], "accuracy": accuracy, "candidates": [
                {"rate": rate, "accuracy": 0.5, "loss": 1.0, "steps": 4, "tokens": 400, "diverged": False}
                for rate in recipe.learning_rates]} for accuracy in right]
            scores[name][str(size)] = {"accuracy": float(np.mean(right)), "spread": float(np.std(right, ddof=1)),
                                       "rows": {"train": 3, "validation": 1, "test": ROWS}, "runs": runs}
    folder = study.cell(arm, seed)
    write_content(folder / "finetune.json", {"topic": scores})
    save_arrays(arrays | {"topic/label": label}, folder / "finetune.npz")
    write_made_with(study, "finetune", folder / FINETUNED_WITH)


def _number(*key) -> float:
    """A number from 0 to 1 that depends on the key alone."""
    return int(hashlib.sha256(repr(key).encode()).hexdigest()[:8], 16) / 16**8


def effect(arm: str) -> float:
    """The made-up difference of an arm from the baseline in nats: from -0.1 to 0.3, and 0 for another seed of it."""
    return 0.0 if arm.startswith("dynamic") else 0.4 * _number(arm, "effect") - 0.1


def _write_cell(study: Study, arm: str, seed: int, tenths: int) -> None:
    folder, rng = study.cell(arm, seed), np.random.default_rng([seed, len(arm)])
    config = resolve(study, arm, TUNED)
    noise = 0.02 * (_number(seed, "level") - 0.5) + 0.01 * (_number(arm, seed) - 0.5)
    nll = UNIGRAM_NLL - 0.02 if arm == NEVER_ESCAPES else 2.0 + effect(arm) + noise
    write_evaluation(folder, nll, "abcd", rng, tenths)
    if config.objective.sentence_objective != "none":
        _add_pairs(folder, rng, config.objective.sentence_objective)
    _write_probe(folder, arm, seed)
    escape = 10_000 if arm == NEVER_ESCAPES else 8 + 14 * _number(arm, "escape") + 14 * _number(arm, seed, "escape")
    write_training(folder, arm, seed, STEPS, 0.3 / escape, nll + 0.05, "own_format_nll")
    if config.training.steps == 0:
        training = json.loads((folder / "training.json").read_text())
        write_content(folder / "training.json", training | {"steps": 0, "tokens": 0})
    (folder / "settings.yaml").write_bytes(settings_yaml(config))


def _add_pairs(folder, rng: np.random.Generator, trained_on: str) -> None:
    """Sentence pairs: 80 % right on the objective that the arm is trained on, 60 % on the other."""
    evaluation = json.loads((folder / "evaluation.json").read_text())
    with np.load(folder / "evaluation.npz") as file:
        arrays = dict(file)
    for task in ("nsp", "sop"):
        correct = rng.random(200) < (0.8 if task == trained_on else 0.6)
        arrays |= {f"{task}/correct": correct, f"{task}/best_correct": np.ones(200, bool)}
        evaluation[task] = {"accuracy": float(correct.mean()), "base_rate": 0.5, "ceiling": 1.0, "pairs": 200}
    write_content(folder / "evaluation.json", evaluation)
    save_arrays(arrays, folder / "evaluation.npz")


def _write_probe(folder, arm: str, seed: int) -> None:
    """A probe of three layers. The texts are as difficult for every arm, so that pairs of arms correlate."""
    difficulty, label = np.random.default_rng(seed).random(ROWS), np.arange(ROWS).astype(np.uint8) % 4
    level, untrained = 0.7 - 0.3 * effect(arm) + 0.02 * _number(arm, seed, "probe"), 0.5
    rows = {("trained", key): level + shift for key, shift in (
        ("cls", -0.1), ("mean", 0.0), ("layer-0", -0.15), ("layer-1", 0.03), ("layer-2", 0.0), ("cosine-cls", -0.3),
        ("cosine-mean", -0.2))}
    rows |= {("untrained", key): untrained + shift for key, shift in (
        ("cls", -0.1), ("mean", 0.0), ("layer-0", 0.05), ("layer-1", 0.02), ("layer-2", 0.0))}
    predicted = {pair: np.where(difficulty < share, label, (label + 1) % 4) for pair, share in rows.items()}
    arrays = {f"topic/{key}/{encoder}/predicted": row.astype(np.uint8) for (encoder, key), row in predicted.items()}
    arrays |= {f"topic/cls/{name}/plane": np.random.default_rng(seed).normal(size=(40, 2))
               for name in ("trained", "untrained")}
    save_arrays(arrays | {"topic/label": label}, folder / "probe.npz")
    right = {pair: float((row == label).mean()) for pair, row in predicted.items()}

    def layers(encoder: str) -> list[dict]:
        return [{"accuracy": right[encoder, f"layer-{number}"], "c": 1.0,
                 "cv_accuracy": right[encoder, f"layer-{number}"]} for number in range(3)]

    sizes = {str(size): {"accuracy": level - 10 / size, "spread": 0.01} for size in (100, 400)}
    scores = {pooling: {"accuracy": right["trained", pooling], "c": 1.0, "cv_accuracy": right["trained", pooling],
                        "untrained_accuracy": right["untrained", pooling]} for pooling in ("cls", "mean")}
    write_content(folder / "probe.json", {"topic": {**scores, **REFERENCE_ACCURACY, "more": {
        "trained": {"layers": layers("trained"), "sizes": sizes, "shuffled": {"accuracy": 0.25},
                    "tutorial": {"accuracy": 0.5, "rows": [2000, 500]}},
        "untrained": {"layers": layers("untrained"), "tutorial": {"accuracy": 0.45, "rows": [2000, 500]}}}}})
