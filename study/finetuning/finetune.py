"""The finetune stage: how accurate is a cell once its whole encoder is trained on a task?

For each task and number of labelled rows, the rows are drawn, and a part of them is held out. Each run trains one
classifier per learning rate on the other rows and keeps the one that is best on the rows held out; the test rows are
used once per run. The encoder as initialised with the same seed is fine-tuned in the same way.

All arms share the draws, the order, the new head and the dropout of a run, which depend on the seed of the cell.
"""
from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
from scipy.special import logsumexp

from study.config.made_with import FINETUNED_WITH, write_made_with
from study.config.schema import FinetuneRecipe, FinetuneTask, RunConfig
from study.config.study import Study
from study.data.task_rows import read_task_rows
from study.data.tokenizer import TokenizerInfo, load
from study.evaluation.embedding import load_cell, untrained_model
from study.files import save_arrays, write_json
from study.finetuning.classifier import Classifier, new_classifier
from study.finetuning.fit import fit, optimisation, predict
from study.finetuning.texts import Texts, encode_texts, stratified_order
from study.objectives.pretraining_model import PretrainingModel


@dataclass(frozen=True)
class Encoder:
    """A pre-trained (or untrained) model, the settings of its cell, its tokenizer and the seed of its cell."""
    model: PretrainingModel
    config: RunConfig
    tokenizer: TokenizerInfo
    seed: int


@dataclass(frozen=True)
class Chosen:
    """The best classifier of a run and, for each learning rate in order, what was measured."""
    classifier: Classifier
    rate: float
    candidates: list[dict]


def finetune(study: Study, arm: str, seed: int) -> dict:
    """Fine-tunes one cell on every task of the settings. Returns the content of finetune.json.

    Writes finetune.json, finetune.npz (predictions for each test row), finetuned_with.yaml (the settings that decide
    them) and, apart from these because it differs from run to run, finetune_time.json (seconds by task). Raises
    StudyError if the cell has not been trained or the rows of a task are missing.
    """
    settings, folder, backend = study.settings.finetune, study.cell(arm, seed), load(study.runs / "tokenizer")
    config, model = load_cell(study, arm, seed)
    tokenizer = TokenizerInfo.of(backend)
    trained = Encoder(model, config, tokenizer, seed)
    plans = {"trained": (trained, settings.recipe)}
    if settings.recipe.untrained:
        plans["untrained"] = (Encoder(untrained_model(config, model, seed), config, tokenizer, seed), settings.recipe)
    if arm == study.settings.baseline:
        plans |= {name: (trained, varied(settings.recipe, changes)) for name, changes in settings.variants.items()}
    result, arrays, seconds = {}, {}, {}
    for task in settings.tasks:
        started = time.perf_counter()
        scores, predicted = finetune_task(study, task, backend, plans)
        result[task.name] = scores
        kind = np.min_scalar_type(len(task.labels) - 1)
        arrays |= {f"{task.name}/{key}": array.astype(kind) for key, array in predicted.items()}
        seconds[task.name] = round(time.perf_counter() - started, 3)
    (folder / FINETUNED_WITH).unlink(missing_ok=True)       # written last, when all scores are there
    save_arrays(arrays, folder / "finetune.npz")
    write_json(folder / "finetune_time.json", {"seconds": seconds})
    write_json(folder / "finetune.json", result)
    write_made_with(study, "finetune", folder / FINETUNED_WITH)
    return result


def varied(recipe: FinetuneRecipe, changes: dict) -> FinetuneRecipe:
    """Returns a recipe with some settings changed."""
    return FinetuneRecipe.model_validate(recipe.model_dump() | changes)


def finetune_task(study: Study, task: FinetuneTask, backend,
                  plans: dict[str, tuple[Encoder, FinetuneRecipe]]) -> tuple[dict, dict[str, np.ndarray]]:
    """Returns the scores of every encoder and recipe on one task, and arrays by name: `label` (N,), and predictions
    (runs, N) for each plan and size."""
    frames = {split: read_task_rows(study, task, split) for split in ("train", "test")}
    labels = {split: frame.label.to_numpy() for split, frame in frames.items()}
    majority = float((labels["test"] == np.bincount(labels["train"]).argmax()).mean())
    scores: dict = {"labels": task.labels, "rows": {split: len(frame) for split, frame in frames.items()},
                    "majority": majority}
    arrays = {"label": labels["test"]}
    for name, (encoder, recipe) in plans.items():
        length = min(recipe.max_length, encoder.config.examples.max_seq_length)
        test, order = encode_texts(backend, frames["test"], length), stratified_order(labels["train"], encoder.seed)
        scores[name] = {}
        for size in recipe.train_sizes:
            drawn = encode_texts(backend, frames["train"].iloc[order[:size]], length)
            scores[name][str(size)], arrays[f"{size}/{name}/predicted"] = finetune_runs(
                encoder, recipe, drawn, test, len(task.labels))
    return scores, arrays


def finetune_runs(encoder: Encoder, recipe: FinetuneRecipe, drawn: Texts, test: Texts,
                  classes: int) -> tuple[dict, np.ndarray]:
    """Returns the scores on the test texts, and the predicted classes (runs, N). drawn: the labelled texts, in an order
    of which every beginning has all classes."""
    runs, rows = [], []
    for run in range(recipe.seeds):
        chosen = choose(encoder, recipe, drawn, classes, run)
        predicted = classes_of(predict(chosen.classifier, test, optimisation(encoder.config, recipe, 1, chosen.rate)),
                               drawn.labels)
        rows.append(predicted)
        runs.append({"rate": chosen.rate, "accuracy": float((predicted == test.labels).mean()),
                     "candidates": chosen.candidates})
    accuracies = [run["accuracy"] for run in runs]
    held_out = held_out_rows(recipe, len(drawn.ids))
    return {"accuracy": mean(accuracies), "spread": stdev(accuracies) if len(accuracies) > 1 else None,
            "rows": {"train": len(drawn.ids) - held_out, "validation": held_out, "test": len(test.ids)},
            "runs": runs}, np.stack(rows)


def choose(encoder: Encoder, recipe: FinetuneRecipe, drawn: Texts, classes: int, run: int,
           progress=lambda items, **_: items) -> Chosen:
    """Returns the classifier with the best accuracy on the rows held out, of one classifier per learning rate.

    Of equal accuracies, the lower loss there decides, then the first rate. A diverged classifier comes last.
    """
    held_out = held_out_rows(recipe, len(drawn.ids))
    validation, train = drawn.rows(np.arange(held_out)), drawn.rows(np.arange(held_out, len(drawn.ids)))
    best, candidates = None, []
    for rate in progress(recipe.learning_rates, description="learning rates"):
        classifier = new_classifier(encoder.model, encoder.config, recipe, encoder.tokenizer, classes, encoder.seed,
                                    run)
        training = optimisation(encoder.config, recipe, len(train.ids), rate)
        done = fit(classifier, train, training, recipe, encoder.seed, run)
        logits = predict(classifier, validation, training)
        accuracy = float((classes_of(logits, train.labels) == validation.labels).mean())
        loss = _loss(logits, validation.labels)
        candidates.append({"rate": rate, "accuracy": accuracy, "loss": loss, "steps": done.steps,
                           "tokens": done.tokens, "diverged": done.diverged})
        rank = (not done.diverged, accuracy, -np.inf if loss is None else -loss)
        if best is None or rank > best[0]:
            best = rank, classifier, rate
    return Chosen(best[1], best[2], candidates)


def held_out_rows(recipe: FinetuneRecipe, rows: int) -> int:
    """Returns how many of so many labelled rows are held out to choose the learning rate."""
    return round(recipe.validation_fraction * rows)


def classes_of(logits: np.ndarray, train_labels: np.ndarray) -> np.ndarray:
    """Returns the likeliest class of each row of logits (N, C). If a logit is not finite, as in a diverged run, it is
    the commonest class of the training labels in every row."""
    if not np.isfinite(logits).all():
        return np.full(len(logits), np.bincount(train_labels).argmax())
    return logits.argmax(1)


def _loss(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean cross-entropy in nats; None if a logit is not finite."""
    if not np.isfinite(logits).all():
        return None
    logits = logits.astype(np.float64)
    return float((logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]).mean())
