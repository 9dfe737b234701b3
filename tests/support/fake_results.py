"""Result files of a study that nobody trained: two arms, two seeds, numbers from a generator."""
import json
import re
import shutil

import numpy as np
import yaml

from study.analysis.claims import load_claims
from study.analysis.compare import compare as run_compare
from study.config.load import Study, load_study, resolve
from study.data.evaluation_sets import SETS, save_arrays
from study.evaluation.exact_claims import run_checks
from tests.support.studies import ROOT

TUNED = {"training.learning_rate": 0.004}
LEVELS = {"tfidf": {"accuracy": 0.8}, "majority": {"accuracy": 0.25}}


def fake_study(folder, about="Masks drawn anew.") -> Study:
    """Settings, result files and tables' inputs under `folder`."""
    (folder / "experiments").mkdir(parents=True)
    arms = yaml.safe_load((ROOT / "experiments/arms.yaml").read_text())
    arms["dynamic"]["description"] = about
    shutil.copy(ROOT / "experiments/claims.yaml", folder / "experiments")
    (folder / "experiments/arms.yaml").write_text(yaml.safe_dump(arms))
    params = (ROOT / "experiments/tiny/params.yaml").read_text().replace("root: ../..", "root: .")
    params = params.replace("\nseeds: [0]\n", "\nseeds: [0, 1]\n")
    params = re.sub(r"^arms: .*?\]", "arms: [dynamic, static]", params, count=1, flags=re.M | re.S)
    (folder / "params.yaml").write_text(params)
    study = load_study(folder)
    _shared(study)
    for number, (arm, seed) in enumerate(study.cells):
        fake_cell(study, arm, seed, 2.0 + 0.1 * number)
    return study


def compare(study: Study):
    """The compare stage as the command line runs it."""
    claims = load_claims(study)
    if not CHECKED:                         # the same for every study
        CHECKED.update(run_checks(study, claims))
    return run_compare(study, claims, CHECKED)


CHECKED: dict[str, dict] = {}


def _write(path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _shared(study: Study) -> None:
    _write(study.runs / "corpus/manifest.json", {"counts": {"train_documents": 3}, "sha256": {"train.parquet": "ab"}})
    _write(study.runs / "examples/references.json", {"hash": {"test": "abcd"}, "tokens": {"test": {"mask_only": 40}},
            "neighbours": {"nll": 3.0, "perplexity": float(np.exp(3.0))}, "floors": {},
            "unigram": {"validation": float(np.exp(4.0)), "test": float(np.exp(4.0))}})
    _write(study.runs / "examples/baselines.json", {"topic": LEVELS})
    trial = {"arm": "dynamic", "number": 0, "state": "complete", "value": 2.2, "params": TUNED, "curve": {"4": 2.2}}
    _write(study.runs / "search/trials.json", [trial])
    (study.runs / "search/best.yaml").write_text(yaml.safe_dump({arm: dict(TUNED) for arm in study.settings.arms}))


def fake_cell(study: Study, arm: str, seed: int, nll: float, evaluation_hash: str = "abcd") -> None:
    rng, folder = np.random.default_rng([seed, len(arm)]), study.cell(arm, seed)
    found = {"nll": nll, "perplexity": float(np.exp(nll)), "tokens": 40, "unigram_nll": 4.0,
             "unigram_perplexity": float(np.exp(4.0)), "floor_nll": 1.5, "floor_perplexity": float(np.exp(1.5)),
             "uniform_nll": 5.0, "excess_nll": nll - 1.5, "share_closed": (4 - nll) / 2.5,
             "by_kind": {"mask": {"nll": nll, "tokens": 40, "floor_nll": 1.5}},
             "by_decile": [{"nll": 1.0, "tokens": 10}, {"nll": (40 * nll - 10) / 30, "tokens": 30}]}
    sets = dict.fromkeys(SETS, found)
    _write(folder / "evaluation.json", {"hash": evaluation_hash, **sets, "nsp": None, "sop": None})
    score = {"accuracy": 0.7, "c": 1.0, "cv_accuracy": 0.7, "untrained_accuracy": 0.5}
    layers = [score | {"accuracy": 0.6, "cv_accuracy": 0.8}, score | {"cv_accuracy": 0.7}]
    _write(folder / "probe.json", {"topic": {"cls": score, "mean": score, **LEVELS,
                                             "more": {"trained": {"layers": layers}, "untrained": {}}}})
    records = [{"step": step, "tokens": 100 * step, "loss": 4.0 - step / 10, "learning_rate": 0.1, "gradient_norm": 1.0,
                "validation_nll": 4.2 - step / 6} for step in (0, 4, 8, 12)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    hardware = {"processor": "p", "cores": 2, "threads": 2, "gpu": None, "platform": "x"}
    _write(folder / "training.json", {
        "study": "tiny", "arm": arm, "seed": seed, "fingerprint": f"{arm}{seed}", "status": "finished", "steps": 12,
        "tokens": 1200, "parameters": 10, "data": "0123456789abcdef", "flops": 1e6, "rows_seen": 96, "seconds": 1.5,
        "tokens_per_second": 800.0, "versions": {"python": "3"}, "hardware": hardware})
    shares = {"rows": 8, "tokens": 256, "padding": 0.0, "predicted": 0.15, "selected": 0.15, "mask": 0.8,
              "random": 0.1, "keep": 0.1, "negative": None}
    line = {"tokens": ["[CLS]", "<i>", "[MASK]"], "kinds": ["untouched", "random", "mask"], "label": None}
    _write(folder / "inputs.json", {"shares": shares, "examples": 8, "views_per_example": 3.0, "views_per_mask": 1.0,
                                    "line": {"passes": [line, line], "more": True}})
    config = resolve(study, arm, TUNED)
    (folder / "settings.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    sample = {"tokens": ["[CLS]", "<b>bold</b>", "[MASK]"],
              "masked": [{"position": 2, "truth": "x|y", "top": [["a", 0.5], ["b", 0.25], ["c", 0.1]]}]}
    _write(folder / "predictions.json", [sample])
    sums = {f"{name}/nll": rng.normal(2 * nll, 0.1, 20) for name in SETS}
    save_arrays(sums | {f"{name}/tokens": np.full(20, 2) for name in SETS}, folder / "evaluation.npz")
    label = np.arange(40).astype(np.uint8) % 4
    planes = {f"topic/cls/{name}/plane": rng.normal(size=(40, 2)) for name in ("trained", "untrained")}
    predicted = {f"topic/{pooling}/trained/predicted": np.where(rng.random(40) < 0.7, label, 0).astype(np.uint8)
                 for pooling in ("cls", "mean", "layer-0", "layer-1")}
    save_arrays(planes | predicted | {"topic/label": label}, folder / "probe.npz")
