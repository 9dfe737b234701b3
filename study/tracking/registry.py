"""The best encoder of a study in MLflow's model registry, as `mlflow.transformers.load_model` reads it."""
from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

from study import StudyError
from study.analysis.results import read_json, read_records
from study.config.load import Study
from study.tracking.runs import find_runs, opened, reported

ALIAS = "best"
CARD = """# {name}, trained in the study {study}

{about} {layers} layers, {width} wide, {norm}-norm; {steps:,} steps, {tokens:,} tokens of {corpus}; seed {seed}.

| | |
|---|---|
| test perplexity on [MASK] | {perplexity:.2f} (word frequencies alone: {unigram:.2f}) |
{probes}

Chosen among {count} cells by validation NLL. It is a small encoder made to compare recipes, not to be used for anything
else; what is in its text, it has learnt. Fingerprint `{fingerprint}`.

```python
fill = mlflow.transformers.load_model("models:/{model}@{alias}")
```
"""


def model_name(study: Study) -> str:
    """Of the study's registered model."""
    return f"{study.settings.name}-encoder"


def best_cell(study: Study) -> tuple[tuple[str, int], int]:
    """The finished cell with weights here that `transformers` has an equal of and whose last validation NLL is lowest,
    and among how many it is the best.

    Raises StudyError when there is none.
    """
    from study.evaluation.embedding import recorded_settings
    from study.model.huggingface import kind_of

    scores: dict[tuple[str, int], float] = {}
    for arm, seed in study.cells:
        folder = study.cell(arm, seed)
        if not (folder / "encoder.safetensors").exists() or read_json(folder / "training.json")["status"] != "finished":
            continue
        nll = [record["validation_nll"] for record in read_records(folder / "metrics.jsonl")
               if "validation_nll" in record]
        try:
            kind_of(recorded_settings(study, arm, seed))
        except StudyError:
            continue
        if nll:
            scores[arm, seed] = nll[-1]
    if not scores:
        raise StudyError(f"{study.runs}: no cell with weights that could be registered; run `dvc repro`, or `dvc pull` "
                         f"where a remote has them")
    return min(scores, key=scores.__getitem__), len(scores)


def register_best(study: Study) -> str:
    """Makes the best cell that was tracked the newest version of the study's model, with alias and card, unless it is
    that already; what was done, in a line. Raises StudyError when there are no weights, or MLflow cannot be written.
    """
    (arm, seed), count = best_cell(study)
    fingerprint = read_json(study.cell(arm, seed) / "training.json")["fingerprint"]
    with reported(study, "register"), opened(study) as (client, experiment):
        if not (found := find_runs(client, experiment, kind="cell", fingerprint=fingerprint)):
            raise StudyError(f"{arm}-{seed} is not in MLflow yet as it is now; run `study track` first")
        number = _register(study, client, found[0].data.tags["mlflow.parentRunId"], arm, seed, count)
    return f"{arm}-{seed} is version {number} of {model_name(study)}, {ALIAS}"


def _register(study: Study, client, run: str, arm: str, seed: int, count: int) -> str:
    """Under the run of the arm, which stays where cells are written again."""
    import mlflow.transformers
    import transformers

    from study.evaluation.embedding import load_cell
    from study.model.huggingface import export

    name, fingerprint = model_name(study), read_json(study.cell(arm, seed) / "training.json")["fingerprint"]
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=f"Encoders of the study {study.settings.name}.")
    for known in client.search_model_versions(f"name = '{name}'"):
        if known.tags.get("fingerprint") == fingerprint and known.run_id == run:
            client.set_registered_model_alias(name, ALIAS, known.version)
            return known.version
    with tempfile.TemporaryDirectory() as folder:
        cell, model = load_cell(study, arm, seed)
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()    # the pipeline leaves the pair head out, and says so
        export(model, cell, study.runs / "tokenizer", Path(folder) / "exported")
        mlflow.transformers.save_model(
            transformers.pipeline("fill-mask", model=str(Path(folder) / "exported")), Path(folder) / "model",
            pip_requirements=[f"{package}=={version(package).partition('+')[0]}" for package in
                              ("torch", "transformers")])
        client.log_artifacts(run, str(Path(folder) / "model"), f"encoder-{fingerprint}")
    made = client.create_model_version(name, f"runs:/{run}/encoder-{fingerprint}", run,
                                       tags={"fingerprint": fingerprint, "arm": arm},
                                       description=card(study, arm, seed, count))
    client.set_registered_model_alias(name, ALIAS, made.version)
    return made.version


def card(study: Study, arm: str, seed: int, count: int) -> str:
    """The model card of a cell that is the best of `count`."""
    from study.evaluation.embedding import recorded_settings

    folder, cell = study.cell(arm, seed), recorded_settings(study, arm, seed)
    training, scores = read_json(folder / "training.json"), read_json(folder / "evaluation.json")["mask_only"]
    probes = "\n".join(f"| {task}: a linear probe of {pooling} vectors | {100 * found[pooling]['accuracy']:.1f} % "
                       f"(untrained: {100 * found[pooling]['untrained_accuracy']:.1f} %) |"
                       for task, found in read_json(folder / "probe.json").items()
                       for pooling in study.settings.probe.poolings)
    corpus = study.settings.corpus
    return CARD.format(
        name=f"{arm}-{seed}", study=study.settings.name, about=study.arms[arm].description, probes=probes, seed=seed,
        layers=cell.model.num_hidden_layers, width=cell.model.hidden_size, norm=cell.model.norm,
        steps=training["steps"], tokens=training["tokens"], count=count,
        corpus="the built-in language" if corpus.kind == "synthetic" else corpus.path, model=model_name(study),
        alias=ALIAS, perplexity=scores["perplexity"], unigram=scores["unigram_perplexity"],
        fingerprint=training["fingerprint"])
