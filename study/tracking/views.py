"""How a study opens in MLflow: its description, views of its runs that stand in the menu *Views*, the way to them.

MLflow's pages keep a saved view as a tag of the experiment: a name, times (ms) and the state of the page as JSON.
"""
from __future__ import annotations

import json
from pathlib import Path

from study.config.load import Study

VIEW = "mlflow.sharedViewState."
NOTE = """**{study}**: {arms} arms, {seeds} seeds each, scored on the same hidden tokens and the same texts.

*Views* (top right) has the comparisons ready. A run without a parent is an arm, with means over its seeds; its children
are the cells. Charts: the second icon beside the search field.

| metric | unit | better |
|---|---|---|
| `perplexity` | test perplexity on [MASK]; of arms with the interval, `perplexity_low` and `_high` | lower |
| `nll`, `test_mask_only_nll`, `test_mixed_nll` | nats a token; all selected words hidden, or 80/10/10 | lower |
| `probe_accuracy` | share of test rows that a linear probe of the frozen encoder gets right | higher |
| `share_closed` | share of the nats between word frequencies and the best possible | higher |
| `validation_perplexity`, `loss` | along training, by step; the loss in nats | lower |
| `tokens_per_second`, `seconds`, `flops` | work and speed of a cell | |
"""


def experiment_tags(study: Study) -> dict[str, str]:
    """The tags of the study's experiment: its description, its kind and its saved views."""
    note = NOTE.format(study=study.settings.name, arms=len(study.settings.arms), seeds=len(study.settings.seeds))
    return {"mlflow.note.content": note, "mlflow.experimentKind": "custom_model_development"} | {
        f"{VIEW}{key}": json.dumps({"name": name, "createdAt": number, "updatedAt": number,
                                    "state": json.dumps(state)}, sort_keys=True)
        for number, (key, (name, state)) in enumerate(VIEWS.items())}


def write_links(study: Study, uri: str, experiment: str, runs: list) -> None:
    """mlflow.html beside the report, to which its table of cells leads: MLflow names runs as it likes, so the report,
    the same for the same results, cannot."""
    from jinja2 import Environment, FileSystemLoader

    served = uri.startswith("http")
    cells = sorted((run.data.tags["fingerprint"], run.info.run_name, run.info.run_id) for run in runs)
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent.parent / "report" / "templates"), autoescape=True)
    study.reports.mkdir(parents=True, exist_ok=True)
    (study.reports / "mlflow.html").write_text(templates.get_template("mlflow.html").render(
        study=study.settings.name, server=uri.rstrip("/") if served else "http://127.0.0.1:5000", served=served,
        cells=cells, experiment=experiment))


def _columns(metrics: tuple[str, ...], tags: tuple[str, ...] = (), parameters: tuple[str, ...] = ()) -> list[str]:
    return [f"{kind}.`{name}`" for kind, names in (("tags", tags), ("params", parameters), ("metrics", metrics))
            for name in names]


def _line(metric: str, scale: str) -> dict:
    return {"type": "LINE", "uuid": metric, "metricSectionId": "curves", "metricKey": metric, "displayName": metric,
            "selectedMetricKeys": [metric], "scaleType": scale, "xAxisKey": "step", "xAxisScaleType": "linear",
            "selectedXAxisMetricKey": "", "yAxisKey": "metric", "yAxisExpressions": [], "lineSmoothness": 0,
            "range": {}, "runsCountToCompare": 100, "deleted": False, "isGenerated": False}


def _bar(metric: str) -> dict:
    return {"type": "BAR", "uuid": metric, "metricSectionId": "ends", "metricKey": metric, "dataAccessKey": None,
            "displayName": metric, "runsCountToCompare": 100, "deleted": False, "isGenerated": False}


def _section(uuid: str, name: str) -> dict:
    return {"uuid": uuid, "name": name, "display": True, "isReordered": True}


VIEWS = {
    "arms": ("Arms: perplexity and probe accuracy", {
        "searchFilter": "tags.kind = 'arm'", "orderByKey": "metrics.`perplexity`", "orderByAsc": True,
        "selectedColumns": _columns(("perplexity", "perplexity_low", "perplexity_high", "probe_accuracy",
                                     "probe_accuracy_low", "probe_accuracy_high", "n"), tags=("factor",))}),
    "curves": ("Learning curves: cells by arm", {
        "searchFilter": "tags.kind = 'cell'", "orderByKey": "metrics.`perplexity`", "orderByAsc": True,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "arm"}]},
        "selectedColumns": _columns(("perplexity", "probe_accuracy"), tags=("status",), parameters=("seed",)),
        "compareRunCharts": [_line("validation_perplexity", "log"), _line("loss", "linear"),
                             _line("gradient_norm", "linear"), _bar("perplexity"), _bar("probe_accuracy")],
        "compareRunSections": [_section("curves", "Learning curves"), _section("ends", "At the end")],
        "isAccordionReordered": True}),
}
