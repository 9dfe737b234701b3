"""The report of a study, from its result files alone: a page for a code host and a self-contained HTML page."""
from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from study import StudyError
from study.analysis.metrics import METRICS
from study.analysis.results import FAILED, primary, read_json, read_records
from study.config.load import Study, flat, read_yaml
from study.orchestration.verify import FILE, record_hash
from study.report.claims import claim_rows, counted, p_value, verdict_counts
from study.report.discussion import discussed, discussion
from study.report.inline import Inline
from study.report.overview import FEW, confusion, draw_figures, further_tasks
from study.report.search import chosen, importances, trial_counts
from study.report.sections import BASELINE, compared, sections

TEMPLATES = Path(__file__).parent / "templates"


def write_report(study: Study) -> Path:
    """Writes README.md, index.html and figures/ under reports/<study>/; returns the HTML page.

    The same result files give the same bytes. Raises StudyError when a stage before it has not run.
    """
    facts = gather(study)
    records = {arm: [read_records(study.cell(arm, seed) / "metrics.jsonl") for seed in study.settings.seeds]
               for arm in study.settings.arms}
    drawn, parts = draw_figures(study, facts, records), sections(study, facts, records)
    folder = study.reports / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    claimed = [(f"claim-{row['slug']}", row["figure"]) for row in facts["claims"] if row["figure"]]
    for name, figure in [*drawn.items(), *(item for part in parts for item in part["figures"].items()), *claimed]:
        (folder / f"{name}.svg").write_text(figure["svg"], encoding="utf-8")
    methods = _render("methods.md", facts, escape=False).replace("*", "").strip().split("\n\n")
    context = facts | {"figures": drawn, "sections": parts, "methods": methods,
                       "script": Markup((TEMPLATES / "table.js").read_text(encoding="utf-8"))}
    (study.reports / "README.md").write_text(_render("report.md", context, escape=False), encoding="utf-8")
    page = study.reports / "index.html"
    page.write_text(_render("report.html", context, escape=True), encoding="utf-8")
    return page


def marks(study: Study) -> tuple[str, str]:
    """Between these lines of the root's README.md stands what a study found."""
    name = study.settings.name
    return f"<!-- {name}:begin (written by `study readme`) -->\n", f"<!-- {name}:end -->"


def readme_block(study: Study) -> str:
    """What a study found, for the root's README.md: three sentences, a table (verdicts of what runs decided; of the
    built-in language the arms) and a figure, of learning curves or, of many arms, of effects."""
    facts = gather(study)
    tested = [row for row in facts["claims"] if row["claim_type"] in TESTED_BY_RUNS and row["source"] != OWN]
    decided = [row for row in tested if row["verdict"] in DECIDED]
    counts = ", ".join(f"{count} {name}" for name, count in verdict_counts(tested) if name != "untested")
    model, steps = study.settings.model, study.settings.training.steps
    size = f"{model.num_hidden_layers} layers of {model.hidden_size} and {steps:,} steps"
    many = len(study.settings.arms) > FEW and (study.reports / "figures" / "effects-nll.svg").exists()
    figure = "effects-nll" if many else "curves"
    tally = f"Of the published claims that these runs test, at {size}: {counts}."
    said = [*facts["findings"][:2], extremes(facts, study)]
    return _render("readme.md", facts | {"place": study.reports.relative_to(study.root), "said": said, "tally": tally,
                                         "decided": decided, "figure": figure}, escape=False)


def extremes(facts: dict, study: Study) -> str:
    """Which change to the baseline helped most on [MASK] and which cost most, of those whose interval excludes no
    difference and whose runs left the plateau; how many had runs that did not."""
    found = [one for one in facts["comparisons"] if one["metric"] == "nll" and math.isfinite(one["low"])
             and one["baseline"] == study.settings.baseline and study.arms[one["treatment"]].factor != BASELINE]
    sure = [one for one in found if (one["low"] > 0 or one["high"] < 0) and not isinstance(one["stuck"], str)]
    best, worst = (pick(sure, key=lambda one: one["effect"], default=None) for pick in (min, max))
    said = [f"{one['treatment']} {what} most on [MASK], {signed(one)} nats"
            for one, what, way in ((best, "helped", -1), (worst, "cost", 1)) if one and way * one["effect"] > 0]
    stuck = sum(isinstance(one["stuck"], str) for one in found)
    beside = f" ({stuck} with runs that stay on the unigram plateau left out)" if stuck else ""
    return (f"Of {len(found)} change{'s' if len(found) != 1 else ''} to it, compared seed by seed{beside}, "
            f"{' and '.join(said) or 'none made a difference on [MASK] that its interval tells from none'}.")


DECIDED = ("supported", "contradicted", "equivalent")
OWN = "this study"                          # the source of what nobody has published: the control
TESTED_BY_RUNS = ("direction", "equal", "range", "point", "rate")


def update_readme(study: Study) -> Path:
    """Puts what the study found between its marks in the root's README.md. Raises StudyError when it has none."""
    path, (begin, end) = study.root / "README.md", marks(study)
    text = path.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise StudyError(f"{path}: no place for {study.settings.name}; put the lines {begin.strip()} and {end} where "
                         f"its findings should stand")
    head, _, rest = text.partition(begin)
    path.write_text(head + begin + readme_block(study) + end + rest.partition(end)[2], encoding="utf-8")
    return path


def _render(name: str, context: dict, escape: bool) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=escape, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= FILTERS | {"inline_svg": Inline()}
    environment.globals["span_md"] = lambda *bounds: markdown(span(*bounds))
    return environment.get_template(name).render(context)


def number(value, digits: int = 2) -> str:
    """A number, or a dash where there is none."""
    missing = value is None or (isinstance(value, float) and not math.isfinite(value))
    return "–" if missing else f"{value:z,.{digits}f}"


def percent(value) -> str:
    return number(None if value is None else 100 * value, 1)


def span(low, high, digits: int = 2, scale: float = 1, sign: str = "") -> str:
    """An interval, or nothing where one seed gives none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{scale * low:{sign}z,.{digits}f}, {scale * high:{sign}z,.{digits}f}]"


def signed(effect: dict, digits: int = 3, scale: float = 1, interval: bool = True) -> str:
    """The effect of a comparison, with its interval, with their signs."""
    bounds = span(effect["low"], effect["high"], digits, scale, "+") if interval else ""
    return f"{scale * effect['effect']:+z,.{digits}f} {bounds}".strip()


def markdown(text) -> str:
    """Text that Markdown shows as it is."""
    text = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
    return re.sub(r"([\\`*_{}\[\]|#])", r"\\\1", text)


FILTERS = {"number": number, "p": p_value, "percent": percent, "span": span, "signed": signed, "md": markdown}


def gather(study: Study) -> dict:
    """Everything that the pages say, from files."""
    tables = study.reports / "tables"
    data = read_json(study.reports / "data.json")
    frames = {name: _table(tables / f"{name}.csv") for name in ("cells", "arms", "comparisons", "tokens")}
    training = {f"{arm}-{seed}": read_json(study.cell(arm, seed) / "training.json") for arm, seed in study.cells}
    task = study.settings.probe.tasks[0]
    arms = [row | {"description": study.arms[row["arm"]].description, "factor": study.arms[row["arm"]].factor,
                   "source": study.arms[row["arm"]].source, "baseline": study.arms[row["arm"]].baseline}
            for row in frames["arms"].to_dict("records")]
    base = read_json(study.cell(study.settings.baseline, study.settings.seeds[0]) / "evaluation.json")["mask_only"]
    facts = {"study": study.settings, "arms": arms, "frames": frames, "data": data, "task": task.name,
             "labels": task.labels, "levels": data["baselines"][task.name], "reference": base,
             "comparisons": frames["comparisons"].to_dict("records"), "primary": primary(study),
             "pooling": primary(study).removeprefix(f"{task.name}_"),
             "metrics": {name: metric.label for name, metric in METRICS.items()},
             "cells": frames["cells"].to_dict("records"), "training": training,
             "worth": _worth(data, base), "confusion": confusion(study), "total": _totals(training, frames["cells"]),
             "settings": dict(flat(study.settings.model_dump(mode="json"))),
             "trials": (trials := read_json(study.runs / "search" / "trials.json")),
             "searched": trial_counts(trials), "mattered": importances(trials, study.settings.search.space),
             "chosen": chosen(read_yaml(study.runs / "search" / "best.yaml")), "samples": _samples(study),
             "quotable": study.quotable,
             "verified": verified(study, training)}
    failed = {arm["arm"]: sum(arm[status] for status in FAILED) for arm in arms}
    told = discussed(study)
    rows = [row | {"counted": counted(row, failed), "discussed": row["id"] in told} for row in claim_rows(study)]
    facts["further"] = further_tasks(study, facts)
    facts |= {"findings": findings(facts, study), "claims": rows, "counts": verdict_counts(rows),
              "sources": {row["source"]: row["source_title"] for row in rows if row["source_title"] != row["source"]}}
    return facts | {"discussion": discussion(study, facts, FILTERS)}


def _table(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise StudyError(f"{path}: not there yet; run `study compare` (or `dvc repro`) first")
    return pd.read_csv(path)


def _worth(data: dict, base: dict) -> list[tuple[str, float]]:
    """What a perplexity is worth: the levels that less or more knowledge reaches on the same tokens."""
    levels = [("every word as likely as any other", math.exp(base["uniform_nll"])),
              ("word frequencies alone", base["unigram_perplexity"]),
              ("counts of neighbours, one on each side", data["references"]["neighbours"]["perplexity"])]
    levels += [(f"{window} word{'s' if int(window) > 1 else ''} on each side, best possible", perplexity)
               for window, perplexity in data["references"].get("contexts", {}).items()]
    return levels + ([("the whole row, best possible", base["floor_perplexity"])] if base["floor_perplexity"] else [])


def _totals(training: dict, cells: pd.DataFrame) -> dict:
    runs = list(training.values())
    return {"tokens": sum(r["tokens"] for r in runs), "flops": sum(r["flops"] for r in runs),
            "seconds": sum(r["seconds"] for r in runs),
            **{key: _joined([r[key] for r in runs]) for key in ("versions", "hardware")},
            "commits": sorted({r["commit"][:10] for r in runs if r.get("commit")}),
            "hosts": len({str(r["hardware"]) for r in runs}), "cells": len(runs),
            **{status: int((cells.status == status).sum()) for status in FAILED}}


def _joined(records: list[dict]) -> dict:
    """Each key with the values that it has in any record."""
    return {key: value if len(found := sorted({str(one.get(key)) for one in records})) == 1 else ", ".join(found)
            for key, value in records[0].items()}


def verified(study: Study, training: dict) -> dict:
    """What `study verify` found of the cells as they stand: cell -> record; one whose record has changed since is left
    out."""
    found = {}
    for cell in training:
        path = study.runs / cell / FILE
        if path.exists() and (one := read_json(path))["record"] == record_hash(path.parent):
            found[cell] = one
    return found


def _samples(study: Study) -> list[dict]:
    """Masked places of the fixed samples with every arm's first guesses, first seed; none where lines of the text may
    not be quoted."""
    if not study.quotable:                  # results may be older than that setting
        return []
    seed = study.settings.seeds[0]
    found = {arm: read_json(study.cell(arm, seed) / "predictions.json") for arm in study.settings.arms}
    result = []
    for index, sample in enumerate(found[study.settings.baseline]):
        places = [{"truth": place["truth"],
                   "guesses": {arm: found[arm][index]["masked"][number]["top"][:3] for arm in found
                               if len(found[arm]) > index}}
                  for number, place in enumerate(sample["masked"])]
        result.append({"text": " ".join(sample["tokens"]), "places": places})
    return result[:4]


def findings(facts: dict, study: Study) -> list[str]:
    """What came out, in sentences made from the tables."""
    base = next(arm for arm in facts["arms"] if arm["arm"] == study.settings.baseline)
    said = [f"The baseline, {base['arm']}, predicts hidden words at perplexity {number(base['perplexity_mean'])} over "
            f"{base['n']} seeds {span(base['perplexity_low'], base['perplexity_high'])}, where word frequencies alone "
            f"give {number(facts['reference']['unigram_perplexity'])}, counts of the words on either side "
            f"{number(facts['data']['references']['neighbours']['perplexity'])}"
            + (f" and nothing can do better than {number(facts['reference']['floor_perplexity'])}: it has closed "
               f"{percent(base['share_closed_mean'])} % of the nats between them."
               if facts["reference"]["floor_perplexity"] else ".")]
    said.append(f"A linear probe reads the labels of {facts['task']} from its frozen vectors with accuracy "
                f"{percent(base['probe_accuracy_mean'])} %, from the same encoder untrained with "
                f"{percent(base['untrained_accuracy_mean'])} %; TF-IDF reaches "
                f"{percent(facts['levels']['tfidf']['accuracy'])} %, the majority class "
                f"{percent(facts['levels']['majority']['accuracy'])} %.")
    found = [found for found in facts["comparisons"] if found["metric"] == "nll" and math.isfinite(found["effect"])]
    return said + ([compared(one) for one in found] if len(facts["arms"]) <= FEW else [extremes(facts, study)])
