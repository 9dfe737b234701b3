"""What the benchmarks train on: text of a Zipf law, one long document, at the two shapes that are compared."""
from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from study.config.arms import resolve
from study.config.git import git_commit
from study.config.load import load_study
from study.config.schema import Masking, RunConfig
from study.data.batches import gather
from study.data.evaluation_sets import EvaluationSet, MaskSet
from study.data.layouts import Spans
from study.data.masking import mask_rows
from study.data.token_store import TokenStore
from study.data.tokenizer import TokenizerInfo
from study.training.trainer import Data
from tests.support.studies import changed

ROOT = Path(__file__).parents[2]
WARMUP, LEAST = 2, 3                        # steps that are not counted (memory grows in them), and counted at least
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Shape:
    """A workload: layers x width, heads, row length, rows a step, vocabulary."""
    name: str
    layers: int
    width: int
    heads: int
    length: int
    rows: int
    vocabulary: int

    @property
    def words(self) -> str:
        return f"{self.layers} x {self.width}, length {self.length}, batch {self.rows}, vocabulary {self.vocabulary:,}"


SMALL = Shape("small", 2, 128, 2, 64, 64, 8192)
TUTORIAL = Shape("tutorial", 6, 256, 8, 128, 64, 30522)
SHAPES = {shape.name: shape for shape in (SMALL, TUTORIAL)}
POSITIONS = ("absolute", "rotary", "relative", "alibi")


def stamp() -> dict[str, str]:
    """Returns the date and the commit of a measurement."""
    return {"date": datetime.now(UTC).date().isoformat(), "commit": (git_commit(ROOT) or "unknown")[:7]}


def config_of(shape: Shape, precision: str = "float32", threads: int | None = None, positions: str = "absolute",
              **training) -> RunConfig:
    """Settings of a cell of that shape, by default with position embeddings as in the peers; everything else as in the
    study of WikiText-2."""
    study = load_study(ROOT / "experiments" / "wikitext2")
    base = resolve(study, study.settings.baseline)
    values = {"steps": 10_000, "batch_size": shape.rows, "precision": precision, "threads": threads,
              "logging_steps": 50, "eval_steps": 10_000, "save_steps": 10_000, **training}
    return changed(base, examples={"max_seq_length": shape.length},
                   model={"hidden_size": shape.width, "num_hidden_layers": shape.layers,
                          "num_attention_heads": shape.heads, "intermediate_size": 4 * shape.width,
                          "positions": positions}, training=values)


def data_of(shape: Shape, tokens: int = 400_000) -> Data:
    """Training tokens and a small validation set of that shape, drawn from a Zipf law."""
    size, count = shape.vocabulary, len(SPECIALS)
    rng = np.random.default_rng(0)
    weight = 1 / np.arange(1, size - count + 1)
    ids = (rng.choice(size - count, tokens, p=weight / weight.sum()) + count).astype(np.uint16)
    ids[-1] = 3
    store = TokenStore(ids, *(np.array([0, tokens]) for _ in range(3)), sha256="benchmark")
    ordinary = np.arange(count, size)
    tokenizer = TokenizerInfo(size, 0, 1, 2, 3, 4, ordinary, np.zeros(size, bool))
    rows = 64
    spans = Spans(np.arange(rows) * shape.length, np.full(rows, shape.length - 2))
    truth = gather(store.ids, spans, shape.length, tokenizer, padded=False).ids
    masking = Masking(mlm_probability=0.15, mask=1, random=0, keep=0, selection="token", span_mean=3,
                      schedule="dynamic", dupe_factor=1)
    masked = mask_rows(truth, tokenizer.is_ordinary[truth], np.ones_like(truth, bool), tokenizer, masking, 0, 0,
                       np.arange(rows))
    sets = {"mask_only": MaskSet(masked.shown, masked.corruption, None)}
    return Data(store, EvaluationSet(truth, sets, {}, np.zeros(size), "benchmark"), tokenizer)
