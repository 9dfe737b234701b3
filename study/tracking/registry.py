"""The best encoder of a study in MLflow's model registry, in the format of `mlflow.transformers.load_model`."""
from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

from study import StudyError
from study.analysis.results import CellResults, read_json
from study.config.study import Study
from study.tracking.client import find_runs, locked_experiment, wrap_mlflow_errors

ALIAS = "best"
CARD = """# {name}, trained in the study {study}

{description} {layers} layers, hidden size {hidden_size}, {norm}-norm; {steps:,} steps, {tokens:,} tokens of {corpus};
seed {seed}.

| | |
|---|---|
| test perplexity on [MASK] | {perplexity:.2f} (unigram frequencies: {unigram:.2f}) |
{probes}

It has the lowest validation loss of {count} cells. It is a small encoder for comparing pre-training recipes and is not
meant for other uses. Whatever its training text contains, it may have learned. Fingerprint: `{fingerprint}`.

```python
fill_mask = mlflow.transformers.load_model("models:/{model}@{alias}")
```
"""


def model_name(study: Study) -> str:
    """The name of the study's registered model."""
    return f"{study.settings.name}-encoder"


def best_cell(study: Study) -> tuple[tuple[str, int], int]:
    """The cell to register as (arm, seed), and the number of candidates. It has the lowest final validation NLL.

    Candidates are finished cells with weights on this machine that `transformers` can represent. Raises StudyError if
    there are none.
    """
    from study.model.huggingface import transformers_class

    scores: dict[tuple[str, int], float] = {}
    for arm, seed in study.cells:
        cell = CellResults(study.cell(arm, seed), arm, seed)
        if not (cell.folder / "encoder.safetensors").exists() or cell.training["status"] != "finished":
            continue
        try:
            transformers_class(cell.settings)
        except StudyError:                  # transformers has no such model
            continue
        if cell.validations:
            _, scores[arm, seed] = cell.validations[-1]
    if not scores:
        raise StudyError(f"{study.runs}: no cell with weights that can be registered; run `dvc repro`, or `dvc pull` "
                         f"if a remote has them")
    return min(scores, key=scores.__getitem__), len(scores)


def register_best(study: Study) -> str:
    """Registers the best tracked cell as the newest version of the study's model, with alias and model card.

    If its weights are registered already, only the alias and the card are brought up to date. Returns the result in one
    line. Raises StudyError if there are no weights, if the cell is not in MLflow, or if MLflow fails.
    """
    (arm, seed), count = best_cell(study)
    fingerprint = read_json(study.cell(arm, seed) / "training.json")["fingerprint"]
    with wrap_mlflow_errors(study, "register"), locked_experiment(study) as (client, experiment):
        runs = find_runs(client, experiment, kind="cell", fingerprint=fingerprint)
        if not runs:
            raise StudyError(f"MLflow does not have the current results of {arm}-{seed}; run `study track` first")
        # Under the run of the arm, which is kept when `study track` replaces the run of a cell.
        number = _register(study, client, runs[0].data.tags["mlflow.parentRunId"], arm, seed, count)
    return f"{arm}-{seed} is version {number} of {model_name(study)}, {ALIAS}"


def _register(study: Study, client, run: str, arm: str, seed: int, count: int) -> str:
    """Registers a cell unless its weights are registered already. Returns the number of its version."""
    name, training = model_name(study), read_json(study.cell(arm, seed) / "training.json")
    fingerprint, weights = training["fingerprint"], training.get("weights", {})     # the hash of each file of weights
    tags, card = {"fingerprint": fingerprint, "arm": arm} | weights, model_card(study, arm, seed, count)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=f"Encoders of the study {study.settings.name}.")
    for known in client.search_model_versions(f"name = '{name}'"):
        if tags.items() <= known.tags.items() and known.run_id == run:
            if known.description != card:
                client.update_model_version(name, known.version, card)
            client.set_registered_model_alias(name, ALIAS, known.version)
            return known.version
    artifact = "-".join(["encoder", fingerprint, *(digest[:8] for digest in weights.values())])
    with tempfile.TemporaryDirectory() as folder:
        _save_model(study, arm, seed, Path(folder))
        client.log_artifacts(run, str(Path(folder) / "model"), artifact)
    created = client.create_model_version(name, f"runs:/{run}/{artifact}", run, tags=tags, description=card)
    client.set_registered_model_alias(name, ALIAS, created.version)
    return created.version


def _save_model(study: Study, arm: str, seed: int, folder: Path) -> None:
    """Writes a cell to `folder`/model as an MLflow model with a fill-mask pipeline."""
    import mlflow.transformers
    import transformers

    from study.evaluation.embedding import load_cell
    from study.model.huggingface import export

    config, model = load_cell(study, arm, seed)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()    # it would warn that the pipeline leaves out the sentence head
    export(model, config, study.runs / "tokenizer", folder / "exported")
    requirements = [f"{package}=={version(package).partition('+')[0]}" for package in ("torch", "transformers")]
    mlflow.transformers.save_model(transformers.pipeline("fill-mask", model=str(folder / "exported")), folder / "model",
                                   pip_requirements=requirements)


def model_card(study: Study, arm: str, seed: int, count: int) -> str:
    """The model card (Markdown) of a cell that is the best of `count`."""
    cell = CellResults(study.cell(arm, seed), arm, seed)
    config, training, scores = cell.settings, cell.training, cell.evaluation["mask_only"]
    probes = "\n".join(f"| {task}: accuracy of a linear probe, {pooling} pooling of the last layer | "
                       f"{100 * score[pooling]['accuracy']:.1f} % "
                       f"(untrained encoder: {100 * score[pooling]['untrained_accuracy']:.1f} %) |"
                       for task, score in cell.probe.items()
                       for pooling in study.settings.probe.poolings)
    corpus = study.settings.corpus
    return CARD.format(
        name=f"{arm}-{seed}", study=study.settings.name, description=study.arms[arm].description, probes=probes,
        seed=seed, layers=config.model.num_hidden_layers, hidden_size=config.model.hidden_size, norm=config.model.norm,
        steps=training["steps"], tokens=training["tokens"], count=count,
        corpus="the built-in language" if corpus.kind == "synthetic" else corpus.path, model=model_name(study),
        alias=ALIAS, perplexity=scores["perplexity"], unigram=scores["unigram_perplexity"],
        fingerprint=training["fingerprint"])
