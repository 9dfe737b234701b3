"""When a run leaves the unigram plateau.

At first a model only learns which tokens are frequent, and its NLL stays near that of unigram frequencies: the plateau.
It has left the plateau once its NLL stays below that level.
"""
from __future__ import annotations

ESCAPE_NATS = 0.1       # a run has left the plateau once its NLL is this far below the unigram level
ESCAPE_VALIDATIONS = 3  # at so many validations in a row


def escape_step(points: list[tuple[int, float]], plateau: float) -> int | None:
    """The first of ESCAPE_VALIDATIONS points in a row that are at least ESCAPE_NATS below the plateau.

    points: (step, NLL in nats). None if there is none. The last points of a run never are: too few points follow.
    """
    below = [nll <= plateau - ESCAPE_NATS for _, nll in points]
    return next((points[first][0] for first in range(len(points) - ESCAPE_VALIDATIONS + 1)
                 if all(below[first:first + ESCAPE_VALIDATIONS])), None)
