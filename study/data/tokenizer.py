"""What the rest of the package needs from a tokenizer: how to load it, its special ids and its ordinary pieces.

wordpiece.py builds tokenizers.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from study import StudyError

PAD_ID = 0                                  # id of [PAD] in every vocabulary that this project makes
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class TokenizerInfo:
    """Vocabulary size V, special ids, and which ids are ordinary pieces.

    `ordinary` (O,) lists all ids except specials and entries such as [unused12]. Only these are prediction targets
    and random replacements. `is_continuation` (V,) is true for pieces that continue a word ('##').
    """
    vocabulary_size: int
    pad_id: int
    unk_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    ordinary: np.ndarray
    is_continuation: np.ndarray

    @cached_property
    def is_ordinary(self) -> np.ndarray:
        """Returns (V,) bool."""
        table = np.zeros(self.vocabulary_size, bool)
        table[self.ordinary] = True
        return table

    @property
    def layout_ids(self) -> tuple[int, ...]:
        """Returns the ids of [MASK] and of the tokens that the layout of rows adds: [PAD], [CLS] and [SEP]."""
        return self.pad_id, self.cls_id, self.sep_id, self.mask_id

    @classmethod
    def of(cls, backend) -> TokenizerInfo:
        """Reads these facts from a `tokenizers.Tokenizer`."""
        entries = backend.get_vocab()
        size = max(entries.values()) + 1
        is_continuation = np.zeros(size, bool)
        for piece, index in entries.items():
            is_continuation[index] = piece.startswith("##")
        ordinary = sorted(index for piece, index in entries.items()
                          if not (piece.startswith("[") and piece.endswith("]") and len(piece) > 2))
        special_ids = (backend.token_to_id(special) for special in SPECIALS)
        return cls(size, *special_ids, np.array(ordinary), is_continuation)


def load(folder: Path):
    """Returns the `tokenizers.Tokenizer` in `folder`. Raises StudyError if it is missing or damaged."""
    from tokenizers import Tokenizer as Backend

    path = folder / "tokenizer.json"
    if not path.exists():
        raise StudyError(f"{path}: no tokenizer; run `study tokenizer` (or `dvc repro`) first")
    try:
        return Backend.from_file(str(path))
    except Exception as error:              # the library raises nothing narrower
        raise StudyError(f"{path}: damaged ({error}); run `study tokenizer` (or `dvc repro`) again") from None
