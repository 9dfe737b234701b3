"""The figures over all arms of a study."""
from __future__ import annotations

from study.analysis import statistics
from study.analysis.comparisons import HEADLINES
from study.analysis.metrics import METRICS
from study.analysis.results import read_arrays, read_json
from study.config.load import Study, resolve
from study.report import figures
from study.report.search import search_figure
from study.report.sections import BASELINE, arm_colors, curve_figure, effects

MANY = 32                                   # arms that a figure names at the ends of lines; beyond, the baseline alone
FEW = 10                                    # arms whose curves can be told apart in one figure


def draw_figures(study: Study, facts: dict, records: dict[str, list[list[dict]]]) -> dict[str, dict]:
    """The figures over all arms: name -> svg, title and alternative text."""
    arms = study.settings.arms
    colors = arm_colors(study)
    named = colors if len(arms) <= MANY else {study.settings.baseline: colors[study.settings.baseline]}
    drawn = {"curves": curve_figure(records, named, facts["data"])}
    table = facts["frames"]["comparisons"]
    for metric in HEADLINES:
        compared_arms = [arm for arm in arms if study.arms[arm].factor != BASELINE]
        part = table[(table.metric == metric) & table.treatment.isin(compared_arms)].dropna(subset="effect")
        part = part.sort_values("effect", ascending=METRICS[metric].unit != "points", kind="stable")
        if len(part):
            drawn[f"effects-{metric.replace('_', '-')}"] = effects(part, colors, metric)
    by_decile = facts["frames"]["tokens"].query("group == 'decile'")
    if study.settings.baseline in set(by_decile.arm):
        table = by_decile.assign(part=by_decile.part.astype(int)).pivot(index="arm", columns="part", values="nll")
        table = table.loc[[arm for arm in arms if arm in table.index and resolve(study, arm).training.steps]]
        drawn["deciles"] = {"title": "Frequent and rare words",
                            "svg": figures.deciles(table, study.settings.baseline),
                            "alt": f"NLL on [MASK] by frequency in training, of {study.settings.baseline} and of each "
                                   f"other trained arm minus it: where an arm gains or loses."}
    drawn |= _probes(study, facts, colors, named)
    if any(t["value"] is not None for t in facts["trials"]):
        drawn["search"] = {"title": "Search", "svg": search_figure(facts["trials"], study.settings.search.space,
                                                                  colors),
                           "alt": "Validation NLL of each trial of the search, in turn with the best so far, and by "
                                  "each tuned setting; hollow: stopped early."}
    return drawn


def _probes(study: Study, facts: dict, colors: dict[str, str], named: dict[str, str]) -> dict[str, dict]:
    """What the probes read: arms beside each other, layers, training rows, and [CLS] vectors in two dimensions."""
    levels = {"majority": facts["levels"]["majority"]["accuracy"], "TF-IDF": facts["levels"]["tfidf"]["accuracy"]}
    drawn = {"probe": {"title": "Linear probe", "svg": figures.probe_bars(facts["frames"]["arms"], colors, levels),
                      "alt": "Probe accuracy of each arm, trained and untrained, with TF-IDF and the majority class."}}
    for name, title, label in (("layers", "Probe by layer", "layer (0: embeddings)"),
                               ("sizes", "Probe by number of training rows", "training rows")):
        if lines := probe_lines(study, name):
            drawn[f"probe-{name}"] = {"title": title, "svg": figures.probe_lines(lines, named, label, name == "sizes"),
                                      "alt": f"Accuracy of the mean-pooled probe by {label}, means over seeds."}
    arrays = read_arrays(study.cell(study.settings.baseline, study.settings.seeds[0]) / "probe.npz")
    points = {name: arrays[f"{facts['task']}/cls/{name}/plane"] for name in ("untrained", "trained")}
    near = {name: arrays[key] for name in ("untrained", "trained")
            if (key := f"{facts['task']}/cls/{name}/tsne") in arrays}
    if near:
        drawn["neighbours"] = {"title": "[CLS] vectors by t-SNE", "alt": "t-SNE of the [CLS] vectors of test rows, "
                               "coloured by label: neighbours stay neighbours, distances mean nothing.",
                               "svg": figures.planes(near, arrays[f"{facts['task']}/label"], facts["labels"],
                                                     "dimension")}
    drawn["plane"] = {"title": "[CLS] vectors, untrained and trained",
                      "alt": "First two principal components of the [CLS] vectors of test rows, coloured by label.",
                      "svg": figures.planes(points, arrays[f"{facts['task']}/label"], facts["labels"],
                                            "component")}
    return drawn


def probe_lines(study: Study, name: str) -> dict[str, list[tuple[float, float]]]:
    """Arm -> (layer or training rows, accuracy), means over seeds, of arms whose every cell was probed so."""
    task, lines = study.settings.probe.tasks[0].name, {}
    for arm in study.settings.arms:
        cells = [read_json(study.cell(arm, seed) / "probe.json")[task] for seed in study.settings.seeds]
        found = [cell.get("more", {}).get("trained", {}).get(name) for cell in cells]
        if not all(found):
            continue
        found = [dict(enumerate(one)) if isinstance(one, list) else one for one in found]
        points = [(int(x), [one[x]["accuracy"] for one in found if one[x]]) for x in found[0]]
        lines[arm] = [(x, sum(values) / len(values)) for x, values in points if len(values) == len(found)]
    return {arm: line for arm, line in lines.items() if line}


def confusion(study: Study) -> dict | None:
    """Confusion of the baseline's probe, summed over seeds: rows are the true classes, columns what was read."""
    task, rows = study.settings.probe.tasks[0], None
    for seed in study.settings.seeds:
        found = read_json(study.cell(study.settings.baseline, seed) / "probe.json")[task.name].get("confusion")
        if found is None:
            return None
        rows = found if rows is None else [[a + b for a, b in zip(*pair, strict=True)]
                                           for pair in zip(rows, found, strict=True)]
    return {"labels": task.labels, "rows": list(zip(task.labels, rows, strict=True))}


def further_tasks(study: Study, facts: dict) -> list[dict]:
    """The probe tasks after the first: name, reference levels, and a row an arm with its mean over seeds, 95 % t
    interval and the same encoders untrained."""
    pooling, cells = facts["primary"].removeprefix(f"{facts['task']}_"), facts["frames"]["cells"]
    found = []
    for task in study.settings.probe.tasks[1:]:
        rows = []
        for arm in study.settings.arms:
            part = cells[cells.arm == arm]
            trained, untrained = (statistics.t_estimate(part[f"{task.name}_{pooling}_{kind}"].dropna().to_numpy(float))
                                  for kind in ("accuracy", "untrained_accuracy"))
            low, high = trained.on_scale(1.0)
            rows.append({"arm": arm, "n": len(part), "mean": trained.mean, "low": low, "high": high,
                         "untrained": untrained.mean})
        found.append({"name": task.name, "pooling": pooling, "levels": facts["data"]["baselines"][task.name],
                      "rows": rows})
    return found
