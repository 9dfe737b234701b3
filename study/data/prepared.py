"""Rows that are made before training, with their pairs and masks, in a parquet data set.

A row of the data set is an example as the encoder sees it, without padding:

    tokens             list of token ids, the masked ones replaced
    segment_ids        list: 0 in the first segment, 1 in the second
    is_random_next     whether the second segment is from elsewhere; false where there is no sentence objective
    masked_positions   list of positions in the row that are predicted
    masked_labels      list of the true token ids there

Such a set has static masks: `masking.dupe_factor` copies of the text, each masked and paired once. Training on it
gives the same batches as training on static masks that are drawn when they are needed.

Shapes: N rows, T positions, S positions with a target.
"""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from study.data.batches import Batch, BatchSource, blocks
from study.data.masking import KEEP, MASK, RANDOM, draw_epoch

COLUMNS = ("tokens", "segment_ids", "is_random_next", "masked_positions", "masked_labels")
BLOCK_ROWS = 512                            # rows that are made at once


def write_rows(source: BatchSource, path: Path) -> int:
    """Writes the rows of all copies to a parquet file with `datasets`. Returns their number.

    Row c * source.rows + i is example i of copy c.
    """
    datasets = _quiet_datasets()
    features = datasets.Features({
        **{name: datasets.Sequence(datasets.Value("int32")) for name in COLUMNS if name != "is_random_next"},
        "is_random_next": datasets.Value("bool")})
    rows = datasets.concatenate_datasets([datasets.Dataset.from_list(list(_split(batch)), features=features)
                                          for batch in _batches(source)])
    rows.to_parquet(path)
    return len(rows)


def _batches(source: BatchSource) -> Iterator[Batch]:
    """All rows, copy by copy, in batches of BLOCK_ROWS: Python objects need far more memory than tables."""
    for copy in range(source.config.masking.dupe_factor):
        for part in blocks(source.rows, BLOCK_ROWS):
            example = np.arange(part.start, min(part.stop, source.rows))
            yield source.rows_of(np.full_like(example, copy), example)


def _split(batch: Batch) -> Iterator[dict]:
    """The rows of a batch, without its padding."""
    rows, length = batch.input_ids.shape
    used = np.full(rows, length) if batch.attention_mask is None else batch.attention_mask.sum(1)
    bounds = np.searchsorted(batch.positions, np.arange(rows + 1) * length)
    labels = np.zeros(rows, int) if batch.next_sentence_label is None else batch.next_sentence_label
    for row in range(rows):
        targets = slice(bounds[row], bounds[row + 1])
        yield {"tokens": batch.input_ids[row, :used[row]], "segment_ids": batch.token_type_ids[row, :used[row]],
               "is_random_next": bool(labels[row]), "masked_positions": batch.positions[targets] - row * length,
               "masked_labels": batch.targets[targets]}


class PreparedSource(BatchSource):
    """The batches of a run from a parquet file that `write_rows` has written for the same source."""

    def __init__(self, source: BatchSource, path: Path):
        self.__dict__.update(source.__dict__)
        rows = _read(path)
        self.lists = {name: _flat(rows[name]) for name in COLUMNS if name != "is_random_next"}
        self.is_random_next = rows["is_random_next"].combine_chunks().to_numpy(zero_copy_only=False)

    def rows_of(self, epoch: np.ndarray, example: np.ndarray) -> Batch:
        """Returns the examples (N,) as they are in the data set, padded to the length of a row."""
        number = draw_epoch(self.config.masking, epoch) * self.rows + example
        pad = self.tokenizer.pad_id
        ids, used = self._padded("tokens", number, pad)
        types, _ = self._padded("segment_ids", number, 0)
        at, counts = self._joined("masked_positions", number)
        row = np.repeat(np.arange(len(number)), counts)
        targets, _ = self._joined("masked_labels", number)
        corruption = np.zeros(ids.shape, np.uint8)
        shown = ids[row, at]
        corruption[row, at] = np.select([shown == self.tokenizer.mask_id, shown == targets], [MASK, KEEP], RANDOM)
        mask = np.arange(self.length)[None] < used[:, None] if self.layout.padded else None
        has_labels = self.config.objective.sentence_objective != "none"
        return Batch(ids, types, mask, row * self.length + at, targets,
                     self.is_random_next[number].astype(np.int64) if has_labels else None, int(used.sum()), corruption)

    def _joined(self, name: str, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The values of a column in these rows (N,), one row after the other, and their counts (N,)."""
        values, offsets = self.lists[name]
        counts = offsets[number + 1] - offsets[number]
        before = np.repeat(np.cumsum(counts) - counts, counts)
        index = np.arange(counts.sum()) - before + np.repeat(offsets[number], counts)
        return values[index].astype(np.int64), counts

    def _padded(self, name: str, number: np.ndarray, padding: int) -> tuple[np.ndarray, np.ndarray]:
        """The values of a column in these rows, (N, T) with padding at the end, and their counts (N,)."""
        values, counts = self._joined(name, number)
        table = np.full((len(number), self.length), padding, np.int64)
        table[np.arange(self.length)[None] < counts[:, None]] = values
        return table, counts


def _read(path: Path):
    """The `pyarrow.Table` of a parquet file, read with `datasets`."""
    datasets = _quiet_datasets()
    with TemporaryDirectory() as cache:
        return datasets.Dataset.from_parquet(str(path), cache_dir=cache, keep_in_memory=True).data.table


def _flat(column) -> tuple[np.ndarray, np.ndarray]:
    """The values of a column of lists, one list after the other, and the offset of each, with the end as the last."""
    lists = column.combine_chunks()
    lengths = lists.value_lengths().to_numpy()
    return lists.flatten().to_numpy(), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def prepared(source: BatchSource) -> BatchSource:
    """Returns the source that reads its rows from a data set, which is written first, if `inputs.prepared` asks for it;
    else the source itself.

    The file is removed once it is in memory: the rows are a function of the settings and the seed.
    """
    if not source.config.inputs.prepared:
        return source
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write_rows(source, path)
        return PreparedSource(source, path)


def _quiet_datasets():
    """The library, without its progress bars."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets

    datasets.disable_progress_bars()
    return datasets
