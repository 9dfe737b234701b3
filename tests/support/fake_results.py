"""Result files of a study that was never trained: two arms, two seeds, made-up numbers. fake_arms.py has many arms."""
import json
import re
import shutil

import numpy as np

from study.analysis.claims import checks_of, load_claims
from study.analysis.compare import compare as run_compare
from study.analysis.verdict import Verdict
from study.config.arms import resolve
from study.config.fingerprint import settings_yaml
from study.config.load import load_study
from study.config.study import Study
from study.data.evaluation_sets import PAIR_SET, SETS
from study.evaluation.exact_claims import run_checks
from study.files import save_arrays
from tests.support.quick_yaml import dump_yaml, load_yaml
from tests.support.shared import made_once
from tests.support.studies import ROOT

TUNED = {"training.learning_rate": 0.004}
REFERENCE_ACCURACY = {"tfidf": {"accuracy": 0.8}, "majority": {"accuracy": 0.25}}
UNIGRAM_NLL = 4.0                           # of every evaluation set, nats
LADDER = {"uniform": 5.0, "unigram": UNIGRAM_NLL, "neighbours-mixture": 3.0, "neighbours-product": 2.75,
          "two-neighbours-product": 2.5, "floor": 1.5}      # NLL of the references, nats


def fake_study(folder, description="Masks are redrawn in every epoch.") -> Study:
    """A study in `folder` with arms dynamic and static, seeds 0 and 1, and every file that `compare` reads.

    description: of the arm dynamic.
    """
    (folder / "experiments").mkdir(parents=True)
    arms = load_yaml((ROOT / "experiments/arms.yaml").read_text())
    arms["dynamic"]["description"] = description
    shutil.copy(ROOT / "experiments/claims.yaml", folder / "experiments")
    (folder / "experiments/arms.yaml").write_text(dump_yaml(arms))
    study = write_params(folder, "tiny", ["dynamic", "static"], [0, 1])
    write_shared_files(study)
    for number, (arm, seed) in enumerate(study.cells):
        fake_cell(study, arm, seed, 2.0 + 0.1 * number)
    return study


def write_params(folder, name: str, arms: list[str], seeds: list[int], change=lambda text: text) -> Study:
    """The tiny study's params.yaml in `folder`, with this name, these arms and these seeds; `change` edits its text."""
    params = (ROOT / "experiments/tiny/params.yaml").read_text().replace("root: ../..", "root: .")
    params = params.replace("\nseeds: [0]\n", f"\nseeds: {seeds}\n").replace("\nname: tiny\n", f"\nname: {name}\n")
    params = re.sub(r"^arms: .*?\]", f"arms: [{', '.join(arms)}]", params, count=1, flags=re.M | re.S)
    (folder / "params.yaml").write_text(change(params))
    return load_study(folder)


def compare(study: Study) -> dict[str, Verdict]:
    """The compare stage as the command line runs it. Outcomes of the checks of code are the same for every study."""
    claims = load_claims(study)
    folder = made_once("checks", lambda folder: write_content(folder / "outcomes.json",
                                                              run_checks(study, checks_of(claims))))
    return run_compare(study, claims, json.loads((folder / "outcomes.json").read_text()))


def write_content(path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_shared_files(study: Study) -> None:
    """What `compare` reads apart from the cells."""
    ladder = [{"name": name, "nll": nll, "perplexity": float(np.exp(nll)), "tokens": 40}
              for name, nll in LADDER.items()]
    write_content(study.runs / "corpus/manifest.json", {"counts": {"train_documents": 3},
                                                        "sha256": {"train.parquet": "ab"}})
    write_content(study.runs / "examples/references.json", {
        "hash": {"test": "abcd"}, "tokens": {"test": {"mask_only": 40}}, "floors": {},
        "ladder": dict.fromkeys(("validation", "test", "validation_pairs"), ladder),
        "unigram": {"validation": float(np.exp(UNIGRAM_NLL)), "test": float(np.exp(UNIGRAM_NLL))}})
    write_content(study.runs / "examples/baselines.json", {"topic": REFERENCE_ACCURACY})
    save_arrays({"unigram": np.array([np.inf, *np.full(55, np.log(55))])}, study.runs / "examples/validation.npz")
    trial = {"arm": "dynamic", "number": 0, "state": "complete", "value": 2.2, "params": TUNED, "curve": {"4": 2.2}}
    write_content(study.runs / "search/trials.json", [trial])
    (study.runs / "search/best.yaml").write_text(dump_yaml({arm: dict(TUNED) for arm in study.settings.arms}))


def fake_cell(study: Study, arm: str, seed: int, nll: float, evaluation_hash: str = "abcd") -> None:
    """Writes the result files of one cell with this NLL on every evaluation set."""
    rng, folder = np.random.default_rng([seed, len(arm)]), study.cell(arm, seed)
    write_evaluation(folder, nll, evaluation_hash, rng)
    _write_probe(folder, rng)
    write_training(folder, arm, seed)
    (folder / "settings.yaml").write_bytes(settings_yaml(resolve(study, arm, TUNED)))


def write_evaluation(folder, nll: float, evaluation_hash: str, rng: np.random.Generator, tenths: int = 2) -> None:
    """Scores on every evaluation set. tenths: groups of tokens by frequency, of which the first is as hard for all."""
    scores = {"nll": nll, "perplexity": float(np.exp(nll)), "tokens": 40, "unigram_nll": UNIGRAM_NLL,
              "unigram_perplexity": float(np.exp(UNIGRAM_NLL)), "floor_nll": 1.5,
              "floor_perplexity": float(np.exp(1.5)), "uniform_nll": 5.0, "excess_nll": nll - 1.5,
              "share_closed": (UNIGRAM_NLL - nll) / (UNIGRAM_NLL - 1.5),
              "by_kind": {"mask": {"nll": nll, "tokens": 40, "floor_nll": 1.5}},
              "by_decile": [{"nll": 1.0, "tokens": 10}] + (tenths - 1) * [
                  {"nll": (40 * nll - 10) / 30, "tokens": 30 // (tenths - 1)}]}
    write_content(folder / "evaluation.json", {"hash": evaluation_hash, **dict.fromkeys((*SETS, PAIR_SET), scores),
                                        "nsp": None, "sop": None})
    sums = {f"{name}/nll": rng.normal(2 * nll, 0.1, 20) for name in (*SETS, PAIR_SET)}
    save_arrays(sums | {f"{name}/tokens": np.full(20, 2) for name in (*SETS, PAIR_SET)}, folder / "evaluation.npz")
    sample = {"tokens": ["[CLS]", "<b>bold</b>", "[MASK]"],
              "masked": [{"position": 2, "truth": "x|y", "top": [["a", 0.5], ["b", 0.25], ["c", 0.1]]}]}
    write_content(folder / "predictions.json", [sample])


def _write_probe(folder, rng: np.random.Generator) -> None:
    score = {"accuracy": 0.7, "c": 1.0, "cv_accuracy": 0.7, "untrained_accuracy": 0.5}
    layers = [score | {"accuracy": 0.6, "cv_accuracy": 0.8}, score | {"cv_accuracy": 0.7}]
    write_content(folder / "probe.json", {"topic": {"cls": score, "mean": score, **REFERENCE_ACCURACY,
                                             "more": {"trained": {"layers": layers}, "untrained": {}}}})
    label = np.arange(40).astype(np.uint8) % 4
    planes = {f"topic/cls/{name}/plane": rng.normal(size=(40, 2)) for name in ("trained", "untrained")}
    predicted = {f"topic/{features}/trained/predicted": np.where(rng.random(40) < 0.7, label, 0).astype(np.uint8)
                 for features in ("cls", "mean", "layer-0", "layer-1")}
    save_arrays(planes | predicted | {"topic/label": label}, folder / "probe.npz")


def write_training(folder, arm: str, seed: int, steps: int = 40, per_step: float = 1 / 6, last: float = 2.2,
                   key: str = "validation_nll") -> None:
    """A run with a validation every four steps, whose NLL falls by `per_step` nats a step from 4.2 to `last`. By
    default it leaves the unigram plateau at step 4, and so passes the learning gate. key: a second name of the NLL."""
    records = [{"step": step, "tokens": 100 * step, "loss": 4.0 - step / steps, "learning_rate": 0.1,
                "gradient_norm": 1.0} | dict.fromkeys(("validation_nll", key), max(last, 4.2 - step * per_step))
               for step in range(0, steps + 1, 4)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    hardware = {"processor": "p", "cores": 2, "threads": 2, "gpu": None, "platform": "x"}
    write_content(folder / "training.json", {
        "study": "tiny", "arm": arm, "seed": seed, "fingerprint": f"{arm}{seed}", "status": "finished", "steps": steps,
        "tokens": 100 * steps, "parameters": 10, "data": "0123456789abcdef", "flops": 1e6, "rows_seen": 96,
        "seconds": 1.5, "tokens_per_second": 800.0, "versions": {"python": "3"}, "hardware": hardware})
    shares = {"rows": 8, "tokens": 256, "padding": 0.0, "predicted": 0.15, "selected": 0.15, "mask": 0.8,
              "random": 0.1, "keep": 0.1, "negative": None}
    line = {"tokens": ["[CLS]", "<i>", "[MASK]"], "kinds": ["untouched", "random", "mask"], "label": None}
    write_content(folder / "inputs.json", {"shares": shares, "examples": 8, "views_per_example": 3.0,
                                           "views_per_mask": 1.0, "line": {"passes": [line, line], "more": True}})
