"""Settings of one run, with the start of a branched arm."""
from __future__ import annotations

from pydantic import PositiveInt

from study.config.schema.base import Settings
from study.config.schema.run import Recipe


class Branch(Settings):
    """The start of a branched arm: up to one step, its cells train as those of another arm do."""

    step: PositiveInt
    """The last step with the settings of the other arm."""

    before: RunConfig
    """The settings of the other arm."""


class RunConfig(Recipe):
    """Resolved settings of one arm: everything that training reads, apart from the seed and the text."""

    branch: Branch | None = None
    """Where a branched arm starts; null: at initialisation. The other settings are those after the branch."""
