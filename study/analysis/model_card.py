"""The model card of an exported cell or classifier: README.md with the metadata that model hubs read."""
from __future__ import annotations

import csv
import math
from typing import Any, NamedTuple

import yaml

from study.analysis.measures import Value
from study.analysis.results import CellResults, HeadlineProbe, StudyResults, headline_probe
from study.analysis.statistics import rate_interval, t_estimate
from study.config.fingerprint import flat, recorded
from study.config.study import Study

TEXT = """# {title}

{introduction} A small encoder for comparing pre-training recipes: {layers} layers of width {hidden_size}. Pre-training
had {parameters:,} parameters, with both heads. Fingerprint `{fingerprint}`.

## Data

{data}

## Scores

{scores}

## Settings

{training}

| setting | value |
|---|---|
{settings}

## Limits

- It is small and was pre-trained for {tokens:,} tokens. It is not meant for use in products.
- It has learnt from the data above alone, and may repeat what they say, prejudice included.
- Rows have at most {length} tokens; longer texts are cut.
{limits}

## How to load

```python
{loading}
```{note}
"""
ENCODER_SCORES = """\
Brackets are 95 % intervals: of this model, over the documents or rows of the test set; of the recipe, over its seeds
too.

| score | this model | mean of the recipe |
|---|---|---|
"""
ENCODER_LIMITS = "- Scores are those of this study's test sets, and hold at this size and budget."
ENCODER_LOADING = """\
from transformers import AutoModel, AutoTokenizer, {class_name}

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = {class_name}.from_pretrained(FOLDER)       # with the heads that were trained
encoder = AutoModel.from_pretrained(FOLDER)        # the encoder alone; a pooler that it may add is not trained

from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer(FOLDER).encode(["A text."])"""
ENCODER_NOTE = """

A vector is the mean of the last hidden states of the text's tokens, without [CLS] and [SEP], as in this study's
probes. The mean of a `Pooling` module alone includes both; `1_WordWeights` leaves them out."""
CLASSIFIER_SCORES = """\
The brackets are a 95 % interval over the test rows, which were scored once. It leaves out what another seed or other
training rows would change.

| score | this model | commonest class of the training rows |
|---|---|---|
"""
CLASSIFIER_LIMITS = """\
- Every text gets one of the classes above, even if it belongs to none.
- The accuracy is that on these test rows. Other texts may differ from them."""
CLASSIFIER_LOADING = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForSequenceClassification.from_pretrained(FOLDER)     # {class_name}
rows = tokenizer(["A text."], padding=True, truncation=True, return_tensors="pt")      # of pairs: two lists of texts
classes = [model.config.id2label[number] for number in model(**rows).logits.argmax(-1).tolist()]"""
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


class ClassifierRun(NamedTuple):
    """How a cell became a classifier, and how well it does.

    files: name and SHA-256 of the file of training rows and, if there is one, of the file of test rows. counts: for
    each class the rows trained on, held out and tested. accuracy: on the test rows; majority: that of the commonest
    class of the training rows. rate: the learning rate that was chosen. recipe: the settings of fine-tuning."""
    files: list[tuple[str, str]]
    counts: dict[str, tuple[int, int, int]]
    accuracy: float
    majority: float
    rate: float
    recipe: dict[str, Any]


def model_card(study: Study, arm: str, seed: int, class_name: str) -> str:
    """Returns the model card (Markdown) of a trained cell. class_name: its class in `transformers`.

    A cell that was not evaluated has no scores.
    """
    cell = CellResults(study.cell(arm, seed), arm, seed)
    scores = _scores(study, cell)
    fills_masks = "MaskedLM" in class_name or "PreTraining" in class_name
    head = _metadata(study, cell.name, scores, ["sentence-transformers", "bert", "pre-training"],
                     "fill-mask" if fills_masks else None)
    lines = [f"| {score.label} | {_interval(*score.values)} | {_recipe_mean(study, arm, score.column)} |"
             for score in scores]
    return _card(
        cell, head, title=f"{cell.name}, trained in the study {study.settings.name}",
        introduction=study.arms[arm].description, data=f"Trained on {_data(study, cell)}",
        scores=ENCODER_SCORES + ("\n".join(lines) or "| not evaluated | | |"), settings={},
        length=cell.settings.examples.max_seq_length, training=_training(cell).capitalize(), limits=ENCODER_LIMITS,
        loading=ENCODER_LOADING.format(class_name=class_name), note=ENCODER_NOTE)


def classifier_card(study: Study, arm: str, seed: int, class_name: str, run: ClassifierRun) -> str:
    """Returns the model card (Markdown) of a cell that was fine-tuned on a file. class_name: its class in
    `transformers`."""
    cell = CellResults(study.cell(arm, seed), arm, seed)
    file, (train, held_out, test) = run.files[0][0], (sum(rows) for rows in zip(*run.counts.values(), strict=True))
    score = Score(f"accuracy, {test:,} test rows of {run.files[-1][0]}",
                  (run.accuracy, *rate_interval(round(run.accuracy * test), test)), None, "accuracy",
                  "text-classification", run.files[-1][0])
    sources = [f"`{name}` (SHA-256 {digest[:16]})" for name, digest in run.files]
    classes = "\n".join(f"| {_escaped(name)} | {' | '.join(f'{count:,}' for count in rows)} |"
                        for name, rows in run.counts.items())
    return _card(
        cell, _metadata(study, f"{cell.name}-{file.split('.')[0]}", [score], ["bert", "fine-tuning"],
                        "text-classification"),
        title=f"{cell.name} of the study {study.settings.name}, fine-tuned on {file}",
        introduction=f"A classifier of texts: the encoder of the arm {arm}, seed {seed}, of the study "
                     f"{study.settings.name}, fine-tuned with a linear layer on the state of [CLS]. "
                     f"{study.arms[arm].description}",
        data=f"Fine-tuned on {sources[0]}: {train:,} rows, and {held_out:,} held out to choose the learning rate. "
             f"Tested on {test:,} rows {'drawn from the same file' if len(sources) == 1 else f'of {sources[1]}'}.\n\n"
             f"| class | trained on | held out | test |\n|---|---|---|---|\n{classes}\n\n"
             f"The encoder was trained on {_data(study, cell)}",
        scores=CLASSIFIER_SCORES + f"| {_escaped(score.label)} | {_interval(*score.values)} | {run.majority:.4g} |",
        settings={"finetune.recipe": run.recipe}, length=min(run.recipe["max_length"],
                                                             cell.settings.examples.max_seq_length),
        training=f"Fine-tuned with the learning rate {run.rate:g}, the best on the rows held out. Pre-training: "
                 f"{_training(cell)}",
        limits=CLASSIFIER_LIMITS, loading=CLASSIFIER_LOADING.format(class_name=class_name), note="")


def _card(cell: CellResults, metadata: dict[str, Any], settings: dict[str, Any], **parts: Any) -> str:
    """A card: the header, and the text with these parts. settings: those that come before the settings of the cell."""
    config, training = cell.settings, cell.training
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n" + TEXT.format(
        parameters=training["parameters"], layers=config.model.num_hidden_layers, hidden_size=config.model.hidden_size,
        fingerprint=training["fingerprint"], tokens=training["tokens"],
        settings="\n".join(f"| `{key}` | {value} |" for key, value in flat(settings | recorded(config))), **parts)


def _training(cell: CellResults) -> str:
    return f"{cell.training['status']} after {cell.training['steps']:,} steps; seed {cell.seed}."


def _data(study: Study, cell: CellResults) -> str:
    """What a cell was trained on, how it can be recognised, and how much of it was seen."""
    training = cell.training
    seen = f"{training['rows_seen']:,} rows were seen." if training.get("rows_seen") else ""
    return f"{_text(study)}. SHA-256 of the token ids: {training['data'][:16]}. {seen}"


def _metadata(study: Study, name: str, scores: list[Score], tags: list[str], pipeline: str | None) -> dict[str, Any]:
    """The YAML header, with the keys of the Hugging Face hub. pipeline: the task of the model, None if it has none."""
    corpus = study.settings.corpus
    content: dict[str, Any] = {"library_name": "transformers", "tags": tags, "model_name": name}
    if pipeline is not None:
        content["pipeline_tag"] = pipeline
    if corpus.kind != "synthetic":
        content["language"] = corpus.language
        if corpus.local is None:            # a local folder need not hold what the hub has under that name
            content["datasets"] = [corpus.path]
    results = [{"task": {"type": score.task}, "dataset": {"type": score.data, "name": score.data},
                "metrics": [{"type": score.metric, "name": score.label, "value": round(score.values[0], 4)}]}
               for score in scores]
    return content | {"model-index": [{"name": name, "results": results}]}


def _escaped(text: str) -> str:
    """A text of others as the content of a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")


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
    nll = Value.of_rows(arrays["mask_only/nll"], arrays["mask_only/tokens"], arrays.get("documents"))
    low, high = t_estimate(nll.texts).interval()
    return math.exp(nll.cell), math.exp(low), math.exp(high)


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
