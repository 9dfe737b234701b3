"""The pilot runs that the settings of experiments/wikitext2 were chosen with, on seeds that no study reports.

    python -m tests.benchmarks.pilots                 train what is missing (hours); reports/pilots/trials.jsonl
    python -m tests.benchmarks.pilots NAME ...        only these pilots
    python -m tests.benchmarks.pilots --page          write reports/pilots.md from the recorded trials

A pilot changes one thing of a short version of the study. Its seeds are paired with those of the other pilots.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence

import yaml
from rich.progress import track

from study.files import atomic_folder
from tests.benchmarks.workload import ROOT

SEEDS = (900, 901, 902)
RESULTS = ROOT / "reports" / "pilots"
TRIALS = RESULTS / "trials.jsonl"
SHORT = {"training": {"steps": 600, "warmup_steps": 200, "learning_rate": 0.005, "eval_steps": 25, "logging_steps": 25,
                      "save_steps": 1_000_000, "precision": "float32"}}
FULL = {"steps": 9600, "warmup_steps": 400, "eval_steps": 100, "logging_steps": 100, "precision": "bfloat16"}
LINEAR = {"decoder_transform": False}
SMALL = FULL | {"batch_size": 32, "steps": 19_200, "warmup_steps": 800, "eval_steps": 200, "logging_steps": 200,
                "learning_rate": 0.0035}
WIDE = {"hidden_size": 192, "num_attention_heads": 6, "intermediate_size": 768}
LONG = FULL | {"steps": 12_800}
ABSOLUTE, ALL_MASK = {"positions": "absolute"}, {"mask": 1.0, "random": 0.0, "keep": 0.0}
PILOTS: dict[str, dict] = {
    "baseline": {},
    "absolute positions": {"model": ABSOLUTE},
    "all-mask": {"masking": ALL_MASK},
    "all-mask, absolute positions": {"masking": ALL_MASK, "model": ABSOLUTE},
    "rows of 32 tokens": {"examples": {"max_seq_length": 32}, "training": {"batch_size": 128}},
    "rows of 128 tokens": {"examples": {"max_seq_length": 128}, "training": {"batch_size": 32}},
    "2,048 tokens per step": {"training": {"batch_size": 32, "steps": 1200, "warmup_steps": 400, "eval_steps": 50,
                                           "logging_steps": 50, "learning_rate": 0.0035}},
    "8,192 tokens per step": {"training": {"batch_size": 128, "steps": 300, "warmup_steps": 100,
                                           "learning_rate": 0.007}},
    "vocabulary of 4,096": {"tokenizer": {"vocabulary_size": 4096}},
    "linear decoder": {"model": LINEAR},
    "three times the steps": {"training": {"steps": 1800}},
    "full length": {"training": FULL},
    "full length, rate 0.0035": {"training": FULL | {"learning_rate": 0.0035}},
    "full length, all-mask, rate 0.0035": {"training": FULL | {"learning_rate": 0.0035}, "masking": ALL_MASK},
    "full length, half the rate": {"training": FULL | {"learning_rate": 0.0025}},
    "full length, a quarter of the rate": {"training": FULL | {"learning_rate": 0.00125}},
    "full length, all-mask, half the rate": {"training": FULL | {"learning_rate": 0.0025}, "masking": ALL_MASK},
    "full length, all-mask, a quarter of the rate": {
        "training": FULL | {"learning_rate": 0.00125}, "masking": ALL_MASK},
    "full length, linear decoder": {"training": FULL, "model": LINEAR},
    "full length, linear decoder, all-mask": {"training": FULL, "model": LINEAR, "masking": ALL_MASK},
    "full length, linear decoder, all-mask, 2,048 tokens per step": {
        "training": SMALL, "model": LINEAR, "masking": ALL_MASK},
    "12,800 steps, linear decoder, all-mask": {"training": LONG, "model": LINEAR, "masking": ALL_MASK},
    "full length, linear decoder, all-mask, half the rate": {
        "training": FULL | {"learning_rate": 0.0025}, "model": LINEAR, "masking": ALL_MASK},
    "full length, linear decoder, all-mask, 192 wide": {"training": FULL, "model": LINEAR | WIDE, "masking": ALL_MASK},
}


def merged(content: dict, changes: dict) -> dict:
    """Returns settings with other values in some sections."""
    return content | {section: content[section] | values for section, values in changes.items()}


def pilot_study(name: str):
    """Returns the study of a pilot, with its data. Pilots with the same text, vocabulary and rows share a folder."""
    from study.config.load import load_study

    content = yaml.safe_load((ROOT / "experiments" / "wikitext2" / "params.yaml").read_text())
    content |= {"name": "pilots", "root": "../../..", "arms": [content["baseline"]],
                "search": content["search"] | {"arms": [], "trials": 0}}
    content.pop("finetune", None)
    content = merged(merged(content, SHORT), PILOTS[name])
    key = data_key(content)
    folder = ROOT / ".state" / "pilots" / key
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    study = load_study(folder)
    prepare(study)
    return study, key


def data_key(content: dict) -> str:
    """Returns 8 hex digits that identify the text, the vocabulary and the rows."""
    data = {section: content[section] for section in ("corpus", "tokenizer", "examples")}
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:8]


def prepare(study) -> None:
    """Runs the corpus, tokenizer and examples stages, each unless it has run."""
    from study.data.corpus_text import write_text_corpus
    from study.data.examples import write_examples
    from study.data.wordpiece import write_tokenizer

    for name, stage in (("corpus", write_text_corpus), ("tokenizer", write_tokenizer), ("examples", write_examples)):
        if not (study.runs / name).exists():
            with atomic_folder(study.runs / name) as folder:
                stage(study, folder)


def train(name: str, seed: int) -> dict:
    """Trains one pilot and returns its record."""
    from study.config.arms import resolve
    from study.model.kernels import configure_processor
    from study.training.pretrain import git_commit, hardware, load_data
    from study.training.trainer import Trainer

    study, key = pilot_study(name)
    config, data = resolve(study, study.settings.baseline), load_data(study)
    configure_processor(config.training.threads)
    progress = Trainer(config, data, seed).train()
    references = json.loads((study.runs / "examples" / "references.json").read_text())
    return {"pilot": name, "seed": seed, "data": key, "commit": git_commit(ROOT), "status": progress.status,
            "steps": progress.step, "tokens": progress.tokens, "seconds": round(progress.seconds, 1),
            "hardware": hardware(), "changes": PILOTS[name],
            "ladder": references["ladder"]["validation"], "settings": config.model_dump(mode="json"),
            "curve": [[record["step"], record["validation_nll"]] for record in progress.records
                      if "validation_nll" in record]}


def recorded() -> list[dict]:
    """Returns the recorded trials."""
    return [json.loads(line) for line in TRIALS.read_text().splitlines()] if TRIALS.exists() else []


def run(names: list[str], seeds: Sequence[int] = SEEDS) -> None:
    """Trains the pilots that are not recorded yet, seed by seed, and records each when it ends."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    done = {(trial["pilot"], trial["seed"]) for trial in recorded()}
    missing = [(name, seed) for seed in seeds for name in names if (name, seed) not in done]
    for name, seed in track(missing, description="pilots", disable=not sys.stderr.isatty()):
        trial = train(name, seed)
        with TRIALS.open("a") as file:
            file.write(json.dumps(trial) + "\n")
        print(name, seed, trial["curve"][-1], f"{trial['seconds']:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"pilots to train: {', '.join(PILOTS)}")
    parser.add_argument("--seed", type=int, choices=SEEDS, help="only this seed")
    parser.add_argument("--page", action="store_true", help="write the page from the recorded trials")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - PILOTS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; pilots are {', '.join(PILOTS)}")
    if arguments.page:
        from tests.benchmarks.pilots_page import write_page

        print(write_page())
    else:
        run(arguments.names or list(PILOTS), SEEDS if arguments.seed is None else (arguments.seed,))


if __name__ == "__main__":
    main()
