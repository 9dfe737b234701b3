"""The model card of an exported cell: README.md with the metadata that model hubs read."""
from __future__ import annotations

import csv
import math
from typing import Any, NamedTuple

import numpy as np
import yaml
from scipy import stats

from study.analysis.results import CellResults, HeadlineProbe, StudyResults, headline_probe
from study.analysis.statistics import rate_interval
from study.config.fingerprint import flat, recorded
from study.config.study import Study

TEXT = """# {name}, trained in the study {study}

{description} A small encoder for comparing pre-training recipes: {parameters:,} parameters, {layers} layers of width
{hidden_size}. Fingerprint `{fingerprint}`.

## Data

{data} {views}

## Scores

Brackets are 95 % intervals: of this model, over the documents or rows of the test set; of the recipe, over its seeds
too.

| score | this model | mean of the recipe |
|---|---|---|
{scores}

## Settings

{training}

| setting | value |
|---|---|
{settings}

## Limits

- It is small and was trained for {tokens:,} tokens. It is not meant for use in products.
- It has learnt from its training text alone, and may repeat what that text says, prejudice included.
- Rows have at most {length} tokens; longer texts are cut.
- Scores are those of this study's test sets, and hold at this size and budget.

## How to load

```python
from transformers import AutoModel, AutoTokenizer, {class_name}

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = {class_name}.from_pretrained(FOLDER)       # with the heads that were trained
encoder = AutoModel.from_pretrained(FOLDER)        # the encoder alone; a pooler that it may add is not trained

from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer(FOLDER).encode(["A text."])
```

A vector is the mean of the last hidden states of the text's tokens, without [CLS] and [SEP], as in this study's
probes. The mean of a `Pooling` module alone includes both; `1_WordWeights` leaves them out.
"""


BUILT_IN = "the built-in language"


class Score(NamedTuple):
    """One line of the scores. values: value and interval. column: of arms.csv, None if it has none. metric, task, data:
    the measure, the kind of task and the data set in the header."""
    label: str
    values: tuple[float, float, float]
    column: str | None
    metric: str
    task: str
    data: str


def model_card(study: Study, arm: str, seed: int, class_name: str) -> str:
    """Returns the model card (Markdown) of a trained cell. class_name: its class in `transformers`.

    A cell that was not evaluated has no scores.
    """
    cell = CellResults(study.cell(arm, seed), arm, seed)
    config, training, scores = cell.settings, cell.training, _scores(study, cell)
    head = yaml.safe_dump(_metadata(study, cell, scores, class_name), sort_keys=False, allow_unicode=True)
    lines = [f"| {score.label} | {_interval(*score.values)} | {_recipe_mean(study, arm, score.column)} |"
             for score in scores]
    return f"---\n{head}---\n\n" + TEXT.format(
        name=cell.name, study=study.settings.name, description=study.arms[arm].description, class_name=class_name,
        parameters=training["parameters"], layers=config.model.num_hidden_layers, length=config.examples.max_seq_length,
        hidden_size=config.model.hidden_size, fingerprint=training["fingerprint"], tokens=training["tokens"],
        data=f"Trained on {_text(study)}. SHA-256 of the token ids: {training['data'][:16]}.",
        views=f"{training['rows_seen']:,} rows were seen." if training.get("rows_seen") else "",
        training=f"{training['status'].capitalize()} after {training['steps']:,} steps; seed {seed}.",
        scores="\n".join(lines) or "| not evaluated | | |",
        settings="\n".join(f"| `{key}` | {value} |" for key, value in flat(recorded(config))))


def _metadata(study: Study, cell: CellResults, scores: list[Score], class_name: str) -> dict[str, Any]:
    """The YAML header, with the keys of the Hugging Face hub."""
    corpus = study.settings.corpus
    content: dict[str, Any] = {
        "library_name": "transformers", "tags": ["sentence-transformers", "bert", "pre-training"],
        "model_name": cell.name}
    if "MaskedLM" in class_name or "PreTraining" in class_name:
        content["pipeline_tag"] = "fill-mask"
    if corpus.kind != "synthetic":
        content["language"] = corpus.language
        if corpus.local is None:            # a local folder need not hold what the hub has under that name
            content["datasets"] = [corpus.path]
    results = [{"task": {"type": score.task}, "dataset": {"type": score.data, "name": score.data},
                "metrics": [{"type": score.metric, "name": score.label, "value": round(score.values[0], 4)}]}
               for score in scores]
    return content | {"model-index": [{"name": cell.name, "results": results}]}


def _text(study: Study) -> str:
    """What the encoder was trained on, and how much that is if the corpus stage has counted it."""
    corpus, summary = study.settings.corpus, StudyResults(study).summaries.get("corpus")
    if corpus.kind == "synthetic":
        text = BUILT_IN
    elif corpus.local is None:
        text = f"the data set `{corpus.path}` of the Hugging Face hub"
    else:
        text = f"text of a local folder, `{corpus.local}`"
    if summary is None:
        return text
    return text + ": {documents:,} documents with {words:,} words".format_map(summary["splits"]["train"])


def _scores(study: Study, cell: CellResults) -> list[Score]:
    corpus, rows = study.settings.corpus, []
    data = BUILT_IN if corpus.kind == "synthetic" else corpus.local or corpus.path
    if (cell.folder / "evaluation.json").exists() and cell.evaluation["mask_only"]:
        rows.append(Score("perplexity on [MASK], test", _perplexity(cell), column="perplexity", metric="perplexity",
                          task="fill-mask", data=data))
    if not (cell.folder / "probe.json").exists():
        return rows
    paths = {task.name: data if task.path == "corpus" else task.local or task.path
             for task in study.settings.probe.tasks}
    for task, scores in cell.probe.items():
        count = int(cell.probe_arrays[f"{task}/label"].size)
        for pooling in study.settings.probe.poolings:
            accuracy = scores[pooling]["accuracy"]
            headline = HeadlineProbe(task, pooling) == headline_probe(study)
            rows.append(Score(f"accuracy, linear probe of {task}, {pooling} pooling, last layer",
                              (accuracy, *rate_interval(round(accuracy * count), count)),
                              "last_layer_accuracy" if headline else None, "accuracy", "text-classification",
                              paths.get(task, data)))
    return rows


def _perplexity(cell: CellResults) -> tuple[float, float, float]:
    """Perplexity on the all-[MASK] test set with a t interval of its logarithm over documents."""
    arrays = cell.evaluation_arrays
    nll, tokens = arrays["mask_only/nll"], arrays["mask_only/tokens"]
    _, document = np.unique(arrays.get("documents", np.arange(len(nll))), return_inverse=True)
    nll, tokens = (np.bincount(document, values) for values in (nll, tokens))        # (documents,)
    mean, count = nll.sum() / tokens.sum(), len(nll)
    error = math.sqrt(count / max(1, count - 1) * ((nll - mean * tokens) ** 2).sum()) / tokens.sum()
    margin = stats.t.ppf(0.975, max(1, count - 1)) * error
    return math.exp(mean), math.exp(mean - margin), math.exp(mean + margin)


def _recipe_mean(study: Study, arm: str, column: str | None) -> str:
    """The mean of a score over the arm's seeds, from arms.csv; empty if the study was not compared."""
    path = study.reports / "tables" / "arms.csv"
    if column is None or not path.exists():
        return ""
    with path.open(encoding="utf-8", newline="") as file:
        row = next((row for row in csv.DictReader(file) if row["arm"] == arm), None)
    values = [row.get(f"{column}_{part}") for part in ("mean", "low", "high")] if row else [None]
    return f"{_interval(*map(float, values))}, {row['n']} seeds" if all(values) else ""


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.4g} [{low:.4g}, {high:.4g}]"
