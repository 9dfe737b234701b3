"""Fine-tuning one cell on a file of labelled texts."""
from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from pydantic import ValidationError

from study import StudyError
from study.config.schema import FinetuneRecipe, RunConfig
from study.config.study import Study
from study.config.yaml_files import nearest
from study.data.labels import UNLABELLED
from study.data.local_files import read_table
from study.data.tokenizer import TokenizerInfo, load
from study.evaluation.embedding import load_cell
from study.files import file_sha256
from study.finetuning.classifier import Classifier
from study.finetuning.finetune import Encoder, choose, classes_of, held_out_rows
from study.finetuning.fit import optimisation, predict
from study.finetuning.texts import encode_texts, stratified_order

TEST_FRACTION = 0.2                         # of the rows, if no file of test rows is given
# The recipe of a study that has none of its own.
DEFAULT = FinetuneRecipe(
    train_sizes=[1], seeds=1, learning_rates=[1e-4, 3e-4, 1e-3], validation_fraction=0.1, epochs=3, batch_size=32,
    warmup_fraction=0.1, lr_scheduler_type="linear", max_length=512, pooling="cls", dropout=0.1, frozen_layers=0,
    freeze_embeddings=False, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-6, weight_decay=0.01, max_grad_norm=1.0,
    untrained=False)
UNUSED = ("train_sizes", "seeds", "untrained")      # settings of a stage that a single run does not have


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned cell: its classifier, the settings of the cell, the names of the classes, and what was measured.

    files: name and SHA-256 of the file of training rows and, if there is one, of the file of test rows. counts: the
    rows of each class that were trained on, held out to choose the learning rate, and tested."""
    classifier: Classifier
    config: RunConfig
    labels: list[str]
    accuracy: float
    majority: float
    rate: float
    train_rows: int
    test_rows: int
    tokens_per_second: float
    files: list[tuple[str, str]]
    counts: list[tuple[int, int, int]]


def recipe_with(study: Study, changes: list[str]) -> FinetuneRecipe:
    """Returns the recipe of the study, or DEFAULT if it has none, with changes such as `epochs=5`.

    Raises StudyError for a change that is not a setting or not valid.
    """
    recipe, values = study.settings.finetune.recipe or DEFAULT, {}
    known = [name for name in FinetuneRecipe.model_fields if name not in UNUSED]
    for change in changes:
        key, separator, value = change.partition("=")
        if not separator or key not in known:
            raise StudyError(f"--set {change}: {key} is not a setting of the recipe"
                             f"{nearest(key, known, '; it has ' + ', '.join(known))}")
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            raise StudyError(f"--set {change}: the value is not YAML; write for example epochs=5 or "
                             f"learning_rates=[1.0e-4, 3.0e-4]") from None
        values[key] = [value] if key == "learning_rates" and not isinstance(value, list) else value
    try:
        return FinetuneRecipe.model_validate(recipe.model_dump() | values)
    except ValidationError as error:
        detail = error.errors()[0]
        raise StudyError(f"--set {detail['loc'][0]}: {detail['msg']}") from None


def read_labelled(path: Path) -> pd.DataFrame:
    """Returns the columns text, label (as text) and, if the file has it, text_pair of a file that read_table knows.
    Labels that have names in the file (ClassLabel) are these names.

    Raises StudyError, with the file and the row, if a text or label is missing, or if a label means that there is none.
    """
    frame = read_table(path)
    if missing := [name for name in ("text", "label") if name not in frame]:
        raise StudyError(f"{path}: no column {missing[0]}; it has {', '.join(map(str, frame.columns)) or 'none'}")
    frame = frame[[name for name in ("text", "text_pair", "label") if name in frame]]
    empty = frame.isna().any(axis=1) | (frame.label.astype(str).str.strip() == "")
    if empty.any():
        raise StudyError(f"{path}: row {int(empty.argmax())} has no text or label")
    for name in frame.columns.drop("label"):
        if not (is_text := frame[name].map(lambda text: isinstance(text, str))).all():
            raise StudyError(f"{path}: row {int((~is_text).argmax())}: {name} is not a text")
    labels = frame.label.astype(str)
    if hidden := int(labels.isin([str(UNLABELLED), str(float(UNLABELLED))]).sum()):
        raise StudyError(f"{path}: {hidden} rows have {UNLABELLED}, which marks rows without a label: remove them from "
                         f"the file")
    return frame.assign(label=labels).reset_index(drop=True)


def split_rows(task: Path, test: Path | None) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Returns training rows, in an order of which every beginning has all classes, test rows, and the names of the
    classes, sorted. label becomes their number. Raises StudyError if rows or classes are too few."""
    frame = read_labelled(task)
    labels = sorted(frame.label.unique(), key=lambda label: (len(label), label) if label.isdigit() else (0, label))
    if len(labels) < 2:
        raise StudyError(f"{task}: {len(labels)} classes; at least 2 are needed")
    numbers = {label: number for number, label in enumerate(labels)}
    order = stratified_order(frame.label.map(numbers).to_numpy(), 0)
    if test is None:
        count = round(TEST_FRACTION * len(frame))
        heldout, frame = frame.iloc[order[:count]], frame.iloc[order[count:]]
    else:
        heldout, frame = read_labelled(test), frame.iloc[order]
        if unknown := sorted(set(heldout.label) - set(labels)):
            raise StudyError(f"{test}: label {unknown[0]} does not occur in {task}")
        if ("text_pair" in heldout) != ("text_pair" in frame):
            raise StudyError(f"{test}: text_pair must be in both files or in neither")
    return (*(rows.assign(label=rows.label.map(numbers)) for rows in (frame, heldout)), labels)


def finetune_file(study: Study, arm: str, seed: int, task: Path, test: Path | None, recipe: FinetuneRecipe,
                  progress=lambda items, **_: items) -> Finetuned:
    """Fine-tunes a cell on the rows of a file, with the learning rate that is best on a part of them, and scores it
    once on the test rows. Raises StudyError if the cell or the file cannot be used."""
    files = [(path.name, file_sha256(path)) for path in (task, test) if path is not None and path.is_file()]
    train, heldout, labels = split_rows(task, test)
    validation = held_out_rows(recipe, len(train))
    if min(validation, len(train) - validation, len(heldout)) < 1:
        raise StudyError(f"{task}: {len(train)} training rows and {len(heldout)} test rows are too few")
    config, model = load_cell(study, arm, seed)
    if recipe.pooling == "cls" and config.objective.token_objective == "causal":
        raise StudyError(f"{arm}-{seed}: is a causal model, whose [CLS] sees no text; pass --set pooling=mean")
    backend = load(study.runs / "tokenizer")
    length, encoder = min(recipe.max_length, config.examples.max_seq_length), Encoder(
        model, config, TokenizerInfo.of(backend), seed)
    began, drawn = time.perf_counter(), encode_texts(backend, train, length)
    chosen = choose(encoder, recipe, drawn, len(labels), 0, progress)
    seconds = time.perf_counter() - began
    if all(candidate["diverged"] for candidate in chosen.candidates):
        raise StudyError(f"{task}: training diverged at every learning rate ("
                         f"{', '.join(f'{rate:g}' for rate in recipe.learning_rates)}); pass smaller ones, for example "
                         f"--set learning_rates=[{min(recipe.learning_rates) / 10:g}]")
    texts = encode_texts(backend, heldout, length)
    logits = predict(chosen.classifier, texts, optimisation(config, recipe, 1, chosen.rate))
    accuracy = float((classes_of(logits, drawn.labels) == texts.labels).mean())
    majority = float((texts.labels == np.bincount(drawn.labels).argmax()).mean())
    tokens = sum(candidate["tokens"] for candidate in chosen.candidates)
    parts = (drawn.labels[validation:], drawn.labels[:validation], texts.labels)
    counts = np.stack([np.bincount(part, minlength=len(labels)) for part in parts], axis=1)     # (classes, 3)
    return Finetuned(chosen.classifier, config, labels, accuracy, majority, chosen.rate, len(train) - validation,
                     len(heldout), tokens / seconds, files, [tuple(row) for row in counts.tolist()])
