"""The examples stage: token stores of all splits, the fixed evaluation sets, and references that need no encoder.

Written to a folder: `train/`, `validation/`, `test/` (token_store.py), `validation.npz`, `test.npz`
(evaluation_sets.py), `references.json` with counts, hashes and the perplexities of references, and the manifests
`training_inputs.json` and `evaluation_inputs.json` with the hashes of what cells read. `summary.json` is for readers.
"""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from study import StudyError
from study.config.arms import resolve
from study.config.made_with import MADE_WITH, write_made_with
from study.config.study import Study
from study.data.batches import PAIR_FORMATS
from study.data.evaluation_sets import (
    PAIR_SET,
    SETS,
    ExactFloor,
    build_evaluation_set,
    content_hash,
    document_windows,
    why_no_pairs,
)
from study.data.layouts import single_layout
from study.data.neighbour_laws import MaskedTokens, masked_tokens
from study.data.references import reference_ladder, unigram_nll
from study.data.sources import SPLITS
from study.data.token_store import TokenStore, write_store
from study.data.token_summary import examples_summary
from study.data.tokenizer import TokenizerInfo, load
from study.files import file_sha256, save_arrays, write_json

OF_PAIRS = ("nsp/", "sop/", f"{PAIR_SET}/")     # beginnings of the names of arrays that describe pairs


def write_examples(study: Study, folder: Path, exact: ExactFloor | None = None,
                   progress=lambda items, **_: items) -> dict:
    """Writes the folder and returns the content of references.json.

    exact: the exact floor of the study's text, None for real text. Raises StudyError if the text is too short.
    """
    backend = load(study.runs / "tokenizer")
    tokenizer = TokenizerInfo.of(backend)
    for split in SPLITS:
        write_store(study.runs / "corpus" / f"{split}.parquet", backend, tokenizer.sep_id, folder / split, progress)
    settings, stores = study.settings.examples, {split: TokenStore.open(folder / split) for split in SPLITS}
    without_pairs = check_arms(study, stores)
    train = stores["train"]
    unigram, sets = unigram_nll(train.ids, tokenizer), {}
    for split, rows in (("validation", settings.validation_rows), ("test", settings.test_rows)):
        remasked = settings.remasked if split == "validation" else None
        sets[split] = build_evaluation_set(settings, stores[split], unigram, tokenizer, rows, exact,
                                           documents=split == "test", paragraphs=remasked.rows if remasked else 0)
    if without_pairs is None and (without_pairs := without_masked_pairs(study, sets)):
        sets = {split: {name: array for name, array in arrays.items() if not name.startswith(OF_PAIRS)}
                for split, arrays in sets.items()}
    for split, arrays in sets.items():
        save_arrays(arrays, folder / f"{split}.npz")
    floors = {} if exact is None else {split: _floors(arrays) for split, arrays in sets.items()}
    tokens = {split: _masked(arrays, "", "mask_only", tokenizer) for split, arrays in sets.items()}
    if without_pairs is None:
        tokens["validation_pairs"] = _masked(sets["validation"], "nsp/", PAIR_SET, tokenizer)
    best = {split: levels["mask_only"]["nll"] for split, levels in floors.items()}
    if exact is not None and without_pairs is None:
        best["validation_pairs"] = floors["validation"][PAIR_SET]["nll"]
    ladder, fitted = reference_ladder(train.ids, unigram, tokens, best)
    references = {
        "vocabulary": len(tokenizer.ordinary),
        "train": {"tokens": len(train.ids), "documents": len(train.documents) - 1,
                  "rows": len(single_layout(train, "full-sentences", settings.max_seq_length))},
        "hash": {split: content_hash(arrays) for split, arrays in sets.items()},
        "tokens": {split: _token_counts(arrays, tokenizer) for split, arrays in sets.items()},
        "unigram": {split: _unigram_perplexity(arrays) for split, arrays in sets.items()},
        "ladder": ladder, "fitted": fitted, "floors": floors,
        "ceilings": {} if exact is None else {split: _ceilings(arrays) for split, arrays in sets.items()}}
    if exact is not None:
        test = sets["test"]
        _, offsets = document_windows(stores["test"], settings.max_seq_length, len(test["ids"]), exact.document_tokens,
                                      settings.seed)
        references["contexts"] = exact.context_perplexities(test["ids"], test["mask_only/kind"], offsets,
                                                            test["mask_only/floor"])
    write_json(folder / "references.json", references, sort_keys=True)
    write_json(folder / "summary.json", examples_summary(stores, tokenizer, settings.max_seq_length, without_pairs),
               ensure_ascii=False)
    write_made_with(study, "examples", folder / MADE_WITH)
    return references


def check_arms(study: Study, stores: dict[str, TokenStore]) -> str | None:
    """Returns why the text has no pairs of segments, None if every split has some.

    Raises StudyError if an arm of the study needs them.
    """
    length = study.settings.examples.max_seq_length
    reasons = {split: reason for split, store in stores.items() if (reason := why_no_pairs(store, length))}
    if not reasons:
        return None
    split, reason = next(iter(reasons.items()))
    _refuse_pairs(study, split, reason)
    return reason


def _refuse_pairs(study: Study, split: str, reason: str) -> None:
    """Raises StudyError if an arm of the study needs pairs of segments."""
    configs = {arm: resolve(study, arm) for arm in study.settings.arms}
    if needing := [arm for arm, config in configs.items() if config.inputs.format in PAIR_FORMATS]:
        raise StudyError(f"{study.params_path}: arms: {', '.join(needing)} cannot be built from the split {split} "
                         f"({reason}); remove {'them' if len(needing) > 1 else 'it'}")


def without_masked_pairs(study: Study, sets: dict[str, dict[str, np.ndarray]]) -> str | None:
    """Returns why the evaluation sets have no pairs with a masked token, None if each has some.

    Raises StudyError if an arm of the study needs them.
    """
    for split, arrays in sets.items():
        if not arrays[f"{PAIR_SET}/kind"].any():
            reason = f"no token of the pairs of the split {split} is masked"
            _refuse_pairs(study, split, reason)
            return reason
    return None


def write_input_manifests(study: Study, folder: Path) -> None:
    """Writes the hashes of what cells read: training_inputs.json for training, evaluation_inputs.json for evaluation.

    folder: the finished folder of the examples, baselines.json included. A cell is stale if its manifest changes.
    """
    tokenizer = file_sha256(study.runs / "tokenizer" / "tokenizer.json")
    sets = json.loads((folder / "references.json").read_text())["hash"]
    train = TokenStore.open(folder / "train").sha256
    write_json(folder / "training_inputs.json",
               {"tokenizer": tokenizer, "train": train, "validation": sets["validation"]})
    tasks, pairs = ({path.name: file_sha256(path) for path in sorted((study.runs / "corpus").glob(pattern))}
                    for pattern in ("probe-*.parquet", "pairs-*.parquet"))
    write_json(folder / "evaluation_inputs.json",
               {"tokenizer": tokenizer, "test": sets["test"], "baselines": file_sha256(folder / "baselines.json"),
                "tasks": tasks} | ({"pairs": pairs} if pairs else {}))


def _masked(arrays: dict[str, np.ndarray], rows: str, name: str, tokenizer: TokenizerInfo) -> MaskedTokens:
    """The selected tokens of one mask set. rows: prefix of the true ids."""
    return masked_tokens(arrays[f"{rows}ids"], arrays[f"{name}/shown"], arrays[f"{name}/kind"], tokenizer.layout_ids)


def _mask_sets(arrays: dict[str, np.ndarray]) -> list[str]:
    """The mask sets of an evaluation set: those of pairs are missing if the text has none."""
    return [name for name in (*SETS, PAIR_SET) if f"{name}/kind" in arrays]


def _token_counts(arrays: dict[str, np.ndarray], tokenizer: TokenizerInfo) -> dict[str, float]:
    """Selected tokens of each mask set, and the fraction of all tokens that are [UNK]."""
    counts = {name: int((arrays[f"{name}/kind"] > 0).sum()) for name in _mask_sets(arrays)}
    return counts | {"unknown_share": float((arrays["ids"] == tokenizer.unk_id).mean())}


def _unigram_perplexity(arrays: dict[str, np.ndarray]) -> float:
    return float(np.exp(arrays["unigram"][arrays["ids"][arrays["mask_only/kind"] > 0]].mean()))


def _floors(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """The best possible NLL (with its standard error) and perplexity of each mask set."""
    floors = {}
    for name in _mask_sets(arrays):
        nll = arrays[f"{name}/floor"]
        floors[name] = {"nll": float(nll.mean()), "error": float(nll.std(ddof=1) / np.sqrt(len(nll))),
                        "perplexity": float(np.exp(nll.mean()))}
    return floors


def _ceilings(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Accuracy of the best possible classifier on the sentence pairs of each task."""
    return {task: float(((arrays[f"{task}/log_odds"] < 0) == arrays[f"{task}/label"]).mean())
            for task in ("nsp", "sop") if f"{task}/label" in arrays}
