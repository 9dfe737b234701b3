"""`study track`: brings MLflow in line with the result files, at any time and without duplicates.

The files under runs/ are the results, and MLflow is a view of them. Each study is an experiment. Each arm is a
top-level run that holds means, intervals and the outcomes of claims about it; its child runs are cells, identified by
their fingerprints. The report is attached to the baseline's run, and so are the summaries of the data. Runs that are
replaced, or whose cell or arm was removed from the study, are marked as deleted; `mlflow gc` frees their space.
"""
from __future__ import annotations

import hashlib
import json
import math
import os
from collections import defaultdict
from pathlib import Path

from study import StudyError
from study.config.fingerprint import read_settings
from study.config.study import Study
from study.data.summary_tables import summarised_tasks, summary_files
from study.tracking.client import (
    arm_run,
    arm_tags,
    create_cell_run,
    database,
    find_runs,
    locked_database,
    locked_experiment,
    log_curves,
    mlflow_client,
    now,
    tracking_uri,
    wrap_mlflow_errors,
)
from study.tracking.views import write_links

FILES = ("settings.yaml", "training.json", "metrics.jsonl", "evaluation.json", "predictions.json", "probe.json",
         "finetune.json")
CLAIM = "claim/"                            # how the tags of an arm that hold outcomes begin; the claim's id follows
MEASURED = "2"                              # raise it if a metric of cells is measured otherwise: runs are replaced


def track(study: Study) -> int:
    """Brings MLflow in line with the result files and returns the number of runs written. A second call writes none.

    Untrained cells are left out. Raises StudyError if no cell is trained, or if MLflow fails.
    """
    trained = [cell for cell in study.cells if (study.cell(*cell) / "training.json").exists()]
    if not trained:
        raise StudyError(f"{study.runs}: no trained cell yet; run `dvc repro` in the study's folder")
    with wrap_mlflow_errors(study, "track"), locked_experiment(study) as (client, experiment):
        recorded = defaultdict(list)
        for run in find_runs(client, experiment, kind="cell"):
            recorded[run.data.tags["arm"], run.data.tags["seed"]].append(run)
        written = sum(_track_cell(client, study, experiment, arm, seed, recorded[arm, str(seed)])
                      for arm, seed in trained)
        outcomes, means = outcome_tags(study), _arm_means(study)
        written += sum(_track_arm(client, study, experiment, arm, outcomes.get(arm, {}), means.get(arm, {}))
                       for arm in dict(trained))
        _delete_removed(client, study, experiment)
        write_links(study, tracking_uri(study), experiment, find_runs(client, experiment, kind="cell"))
        return written


def rename_experiment(study: Study, old: str) -> None:
    """Gives the MLflow experiment of a renamed study, and its registered model, the study's new name.

    Does nothing if MLflow has no experiment of the old name. Raises StudyError if MLflow fails; it can be repeated.
    """
    if "MLFLOW_TRACKING_URI" not in os.environ and not database(study).exists():
        return
    name = study.settings.name
    with wrap_mlflow_errors(study, f"rename {name} --study {study.folder}"), locked_database(study):
        client = mlflow_client(study)
        if experiment := client.get_experiment_by_name(old):
            client.rename_experiment(experiment.experiment_id, name)
        if client.search_registered_models(f"name = '{old}-encoder'"):
            client.rename_registered_model(f"{old}-encoder", f"{name}-encoder")


def _delete_removed(client, study: Study, experiment: str) -> None:
    """Deletes the runs of cells and arms that the study no longer has, except those that hold a registered model."""
    cells = {(arm, str(seed)) for arm, seed in study.cells}
    removed = [run.info.run_id for run in find_runs(client, experiment, kind="cell")
               if (run.data.tags["arm"], run.data.tags["seed"]) not in cells]
    removed += [run.info.run_id for run in find_runs(client, experiment, kind="arm")
                if run.data.tags["arm"] not in study.settings.arms]
    for run in removed:
        if not client.search_model_versions(f"run_id = '{run}'"):
            client.delete_run(run)


def _content_hash(paths: list[Path], text: str = "") -> str:
    parts = [text.encode(), *(path.name.encode() + path.read_bytes() for path in paths)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _track_cell(client, study: Study, experiment: str, arm: str, seed: int, runs: list) -> int:
    """Replaces the runs of a cell, unless it has exactly one and that was written from these files. Returns the number
    of runs written."""
    from study.analysis.results import read_json, read_records

    folder = study.cell(arm, seed)
    files = [path for name in FILES if (path := folder / name).exists()]
    content = _content_hash(files, MEASURED + json.dumps(arm_tags(study, arm)))
    if len(runs) == 1 and runs[0].data.tags.get("content") == content:
        return 0
    for run in runs:
        client.delete_run(run.info.run_id)
    results = {path.name: read_json(path) for path in files if path.suffix == ".json"}
    training, end_time = results["training.json"], int(1000 * (folder / "training.json").stat().st_mtime)
    duration = int(1000 * (training["seconds"] or 0))       # ms
    cell = training | {"settings": read_settings(folder / "settings.yaml").model_dump(mode="json")}
    run = create_cell_run(client, study, experiment, cell, end_time - duration)
    records = [record | {"time": end_time - duration + duration * record["tokens"] // max(1, training["tokens"])}
               for record in read_records(folder / "metrics.jsonl")]
    final = final_metrics(study, arm, seed, results) | {"step": training["steps"], "time": end_time}
    log_curves(client, run, [*records, final])
    _log_data(client, study, run, results)
    for path in files:
        client.log_artifact(run, str(path))
    client.set_terminated(run, end_time=end_time)
    client.set_tag(run, "content", content)         # last: without it, the next call writes the run again
    return 1


def final_metrics(study: Study, arm: str, seed: int, results: dict[str, dict]) -> dict[str, float | None]:
    """The metrics of a finished cell: work and speed, scores on the test sets, probes.

    results: the content of its JSON files by name. `probe_accuracy` is that of the layer that cross-validation chooses,
    as in the tables; the other probes are of the last layer.
    """
    from study.analysis.measures import chosen_layer
    from study.analysis.results import StudyResults, headline_probe

    evaluation = results.get("evaluation.json", {})
    values = {key: results["training.json"].get(key) for key in ("tokens_per_second", "seconds", "flops", "parameters")}
    values |= {f"test_{name}_{key}": scores.get(key) for name, scores in evaluation.items() if isinstance(scores, dict)
               for key in ("nll", "perplexity", "excess_nll", "accuracy")}
    values |= {key: (evaluation.get("mask_only") or {}).get(key) for key in ("nll", "perplexity")}
    values |= {f"minimal_pairs_{task}": scores["accuracy"]
               for task, scores in evaluation.get("minimal_pairs", {}).items()}
    values |= {f"token_identity_{encoder}_layer_{layer}": share
               for encoder, shares in evaluation.get("token_identity", {}).get("layers", {}).items()
               for layer, share in enumerate(shares)}
    for task, scores in results.get("probe.json", {}).items():
        for pooling in scores.keys() & study.settings.probe.poolings:
            values[f"probe_{task}_{pooling}"] = scores[pooling]["accuracy"]
            values[f"probe_{task}_{pooling}_untrained"] = scores[pooling].get("untrained_accuracy")
    for task, scores in results.get("finetune.json", {}).items():
        for name in scores.keys() - {"labels", "rows", "majority"}:
            values |= {f"finetune_{task}_{size}_{name}": part["accuracy"] for size, part in scores[name].items()}
    task, pooling = headline_probe(study)
    last, files = values.get(f"probe_{task}_{pooling}"), StudyResults(study)
    chosen = chosen_layer(files, files.cell(arm, seed)) if "probe.json" in results else None
    return values | {"probe_accuracy": last if chosen is None else chosen[1], "last_layer_accuracy": last}


def _log_data(client, study: Study, run: str, results: dict[str, dict]) -> None:
    """Records the training data and the evaluation set of a cell by name and hash."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    corpus = study.settings.corpus
    name, source = ("built-in language", "code") if corpus.kind == "synthetic" else (corpus.path, "hugging_face")
    for context, file, key in (("training", "training.json", "data"), ("evaluation", "evaluation.json", "hash")):
        if file in results:
            data = Dataset(f"{name}: {context}", results[file][key][:12], source, corpus.model_dump_json())
            client.log_inputs(run, datasets=[DatasetInput(data, [InputTag("mlflow.data.context", context)])])


def outcome_tags(study: Study) -> dict[str, dict[str, str]]:
    """Arm -> tags with outcome and fidelity of the claims that training runs test, as in `claim/S0.10`: `holds; same
    question`. A claim about a difference is of its treatment. Empty before the compare stage."""
    from study.report.claims import claim_rows, with_runs, words

    tags: dict[str, dict[str, str]] = {}
    for row in with_runs(claim_rows(study)) if (study.reports / "claims.json").exists() else []:
        tags.setdefault(row.get("treatment") or row["arm"], {})[f"{CLAIM}{row['id']}"] = words(row)
    return tags


def _arm_means(study: Study) -> dict[str, dict[str, float]]:
    """Arm -> its numbers in tables/arms.csv; empty before the compare stage. Means have the names of the metrics of
    cells too, so that arms and cells share a column."""
    import pandas as pd

    table = study.reports / "tables" / "arms.csv"
    rows = pd.read_csv(table, index_col="arm").select_dtypes("number") if table.exists() else pd.DataFrame()
    means = {arm: row.dropna().to_dict() for arm, row in rows.iterrows()}
    return {arm: row | {key.removesuffix("_mean"): value for key, value in row.items()} for arm, row in means.items()}


def _track_arm(client, study: Study, experiment: str, arm: str, outcomes: dict[str, str],
               means: dict[str, float]) -> int:
    """Logs means, intervals and outcomes to an arm's run, and the report and the summaries of the data to the
    baseline's.

    The run is kept, since it may hold a registered model. Metrics that the arm no longer has become NaN, and outcomes
    that it no longer has are removed. outcomes, means: its part of `outcome_tags` and of `_arm_means`. Returns 1 if it
    wrote anything.
    """
    page = study.reports / "index.html"
    pages = [path for path in (page, page.with_name("README.md"))
             if arm == study.settings.baseline and path.exists()]
    summaries = summary_files(study.runs, summarised_tasks(study)) if arm == study.settings.baseline else []
    tags, run = arm_tags(study, arm) | outcomes, arm_run(client, study, experiment, arm)
    content, before = _content_hash([*pages, *summaries], json.dumps([means, tags])), client.get_run(run).data
    if before.tags.get("content") == content:
        return 0
    log_curves(client, run, [dict.fromkeys(before.metrics, math.nan) | means | {"step": 0, "time": now()}])
    for key, text in tags.items():
        client.set_tag(run, key, text)
    for key in before.tags.keys() - tags.keys():
        if key.startswith(CLAIM):
            client.delete_tag(run, key)
    for path in pages:
        client.log_artifact(run, str(path), "report")
    for path in summaries:
        client.log_artifact(run, str(path), f"data/{path.parent.relative_to(study.runs).as_posix()}")
    client.set_tag(run, "content", content)
    client.set_terminated(run)
    return 1
