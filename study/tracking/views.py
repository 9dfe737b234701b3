"""How a study looks in MLflow's UI: the description of its experiment, its saved views, and links from the report.

MLflow stores a saved view as a tag of the experiment: a name, times (ms since 1970) and the state of the page as JSON.
"""
from __future__ import annotations

import json
from pathlib import Path

from study.config.study import Study
from study.tracking.redaction import redacted

LONGEST_NOTE = 5000                         # characters of a tag, in MLflow
VIEW = "mlflow.sharedViewState."
NOTE = """**{study}**: {size}, all scored on the same masked tokens and the same texts.

*Views* (top right) lists ready-made comparisons. Each arm is a top-level run that holds means over its seeds; its child
runs are the cells. Tags such as `claim/S0.10` of an arm are the outcomes of claims. The chart icon is next to the
search field.

| metric | meaning | better |
|---|---|---|
| `perplexity` | test perplexity on [MASK]; arms also have the interval, `perplexity_low` to `perplexity_high` | lower |
| `nll`, `test_mask_only_nll`, `test_mixed_nll` | test loss in nats per token, all-[MASK] or 80/10/10 | lower |
| `probe_accuracy` | test accuracy of a linear probe on the layer that cross-validation chooses | higher |
| `last_layer_accuracy` | test accuracy of the same probe on the last layer | higher |
| `share_closed` | share of the gap between unigram frequencies and the best possible loss that is closed | higher |
| `validation_perplexity`, `loss` | per training step; the loss in nats | lower |
| `tokens_per_second`, `seconds`, `flops` | speed and work of a cell | |
"""
LADDER_NOTE = """
What needs no encoder, on the same masked tokens:

| reference | test perplexity (`perplexity`) | nats (`nll`) | validation perplexity (`validation_perplexity`) |
|---|--:|--:|--:|
"""


def experiment_tags(study: Study) -> dict[str, str]:
    """The tags of the study's experiment: its description, its type and its saved views."""
    from study.report.formatting import plural

    arms, seeds = len(study.settings.arms), len(study.settings.seeds)
    size = f"{plural(arms, 'arm')} with {plural(seeds, 'seed')}{' each' if arms > 1 else ''}"
    note = NOTE.format(study=study.settings.name, size=size)
    note += _ladder_table(study)
    note += _summary_note(study, LONGEST_NOTE - len(note))
    return {"mlflow.note.content": note, "mlflow.experimentKind": "custom_model_development"} | {
        f"{VIEW}{key}": json.dumps({"name": name, "createdAt": number, "updatedAt": number,
                                    "state": json.dumps(state)}, sort_keys=True)
        for number, (key, (name, state)) in enumerate(VIEWS.items())}


def _ladder_table(study: Study) -> str:
    """The references of the study as a table, from its examples or, in a fresh clone, its report; empty without."""
    from study.analysis.ladder import read_ladder
    from study.analysis.results import read_json

    examples, report = study.runs / "examples" / "references.json", study.reports / "data.json"
    if not (examples.exists() or report.exists()):
        return ""
    references = read_json(examples) if examples.exists() else read_json(report)["references"]
    rungs = zip(*(read_ladder(references, split) for split in ("test", "validation")), strict=True)
    return LADDER_NOTE + "".join(f"| {test.label} | {test.perplexity:,.2f} | {test.nll:.3f} | "
                                 f"{validation.perplexity:,.2f} |\n" for test, validation in rungs)


def _summary_note(study: Study, room: int) -> str:
    """The summaries of the study's data as Markdown: warnings and tables, as many as fit into `room` characters. Empty
    if there are none."""
    from study.analysis.results import StudyResults
    from study.data.summary_tables import summary_tables, warnings_of

    summaries = StudyResults(study).summaries
    parts = ["".join(f"- {warning}\n" for warning in warnings_of(summaries))]
    for table in summary_tables(summaries):
        rows = [table.header, ["---", *["--:"] * (len(table.header) - 1)], *table.rows]
        parts.append("".join(f"| {' | '.join(cell.replace('|', '') for cell in row)} |\n" for row in rows))
    text = "\nThe data:\n"
    for part in filter(None, parts):
        text += f"\n{part}" if len(text) + len(part) < room else ""
    return text if summaries else ""


def write_links(study: Study, uri: str, experiment: str, runs: list) -> None:
    """Writes mlflow.html next to the report: a page that forwards from the fingerprint of a cell to its run in MLflow.

    The report names this page and not MLflow, because the ids of runs are random and the report must not change
    if the results do not.
    """
    from jinja2 import Environment, FileSystemLoader

    served = uri.startswith("http")
    server = redacted(uri).rstrip("/") if served else "http://127.0.0.1:5000"
    cells = sorted((run.data.tags["fingerprint"], run.info.run_name, run.info.run_id) for run in runs)
    folder = Path(__file__).parent.parent / "report" / "templates"
    templates = Environment(loader=FileSystemLoader(folder), autoescape=True)
    study.reports.mkdir(parents=True, exist_ok=True)
    (study.reports / "mlflow.html").write_text(templates.get_template("mlflow.html").render(
        study=study.settings.name, server=server, served=served, cells=cells, experiment=experiment))


def _columns(metrics: tuple[str, ...], tags: tuple[str, ...] = (), parameters: tuple[str, ...] = ()) -> list[str]:
    return [f"{kind}.`{name}`" for kind, names in (("tags", tags), ("params", parameters), ("metrics", metrics))
            for name in names]


def _line(metric: str, scale: str) -> dict:
    return {"type": "LINE", "uuid": metric, "metricSectionId": "curves", "metricKey": metric, "displayName": metric,
            "selectedMetricKeys": [metric], "scaleType": scale, "xAxisKey": "step", "xAxisScaleType": "linear",
            "selectedXAxisMetricKey": "", "yAxisKey": "metric", "yAxisExpressions": [], "lineSmoothness": 0,
            "range": {}, "runsCountToCompare": 100, "deleted": False, "isGenerated": False}


def _bar(metric: str) -> dict:
    return {"type": "BAR", "uuid": metric, "metricSectionId": "final", "metricKey": metric, "dataAccessKey": None,
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
        "compareRunSections": [_section("curves", "Learning curves"), _section("final", "After training")],
        "isAccordionReordered": True}),
}
