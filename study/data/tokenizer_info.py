"""What batches and masks need to know of a tokenizer."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class TokenizerInfo:
    """Special ids, and which ids are ordinary pieces.

    `ordinary` (O,) lists the ordinary ids: all but specials and entries such as [unused12]. They are the only targets
    and the only random replacements. `is_continuation` (V,) is true for pieces that continue a word ('##').
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
        """(V,) bool."""
        table = np.zeros(self.vocabulary_size, bool)
        table[self.ordinary] = True
        return table

    @classmethod
    def of(cls, backend) -> TokenizerInfo:
        """The facts of a `tokenizers.Tokenizer`."""
        entries = backend.get_vocab()
        size = max(entries.values()) + 1
        is_continuation = np.zeros(size, bool)
        for piece, index in entries.items():
            is_continuation[index] = piece.startswith("##")
        ordinary = sorted(index for piece, index in entries.items()
                          if not (piece.startswith("[") and piece.endswith("]") and len(piece) > 2))
        ids = (backend.token_to_id(f"[{name}]") for name in ("PAD", "UNK", "CLS", "SEP", "MASK"))
        return cls(size, *ids, np.array(ordinary), is_continuation)
