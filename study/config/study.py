"""A study: its settings, its arms, and the folders of its results."""
from __future__ import annotations

import os
from pathlib import Path

from study import StudyError
from study.config.schema import Arm, Settings, StudyConfig
from study.config.yaml_files import nearest

STORAGE = "STUDY_STORAGE"                   # environment variable: address of the database with the search's trials


class Study(Settings):
    """A study and all arms of the project. `load_study` returns one."""

    folder: Path
    """Folder of params.yaml."""

    settings: StudyConfig

    arms: dict[str, Arm]
    """Every arm of experiments/arms.yaml. `settings.arms` are those that the study trains."""

    @property
    def root(self) -> Path:
        """The folder that contains experiments/, runs/ and reports/."""
        return Path(os.path.normpath(self.folder / self.settings.root))

    @property
    def params_path(self) -> Path:
        return self.folder / "params.yaml"

    @property
    def arms_path(self) -> Path:
        return self.root / "experiments" / "arms.yaml"

    @property
    def runs(self) -> Path:
        """The folder of the study's results. `root`/runs/<name> is this folder, or a link to it."""
        return self.folder / "runs" / self.settings.name

    @property
    def reports(self) -> Path:
        """The folder of the study's report. `root`/reports/<name> is this folder, or a link to it."""
        return self.folder / "reports" / self.settings.name

    @property
    def state(self) -> Path:
        """The folder of what only a run in progress needs: checkpoints, logs, trials and the code identity."""
        return self.folder / ".state"

    @property
    def quotable(self) -> bool:
        """Whether results may quote the corpus. Synthetic text always may be quoted."""
        return getattr(self.settings.corpus, "quote", True)

    @property
    def cells(self) -> list[tuple[str, int]]:
        """Every cell as (arm, seed), in the order in which the pipeline trains them."""
        return [(arm, seed) for arm in self.settings.arms for seed in self.settings.seeds]

    def cell(self, arm: str, seed: int) -> Path:
        """The folder of one cell's results."""
        return self.runs / f"{arm}-{seed}"

    def parse_cell_name(self, name: str) -> tuple[str, int]:
        """Returns arm and seed of a cell from its name, for example `dynamic-0`. Raises StudyError for other names."""
        cells = {f"{arm}-{seed}": (arm, seed) for arm, seed in self.cells}
        if name not in cells:
            raise StudyError(f"{self.params_path}: no cell {name}{nearest(name, cells)}; a cell is an arm "
                             f"({', '.join(self.settings.arms)}) and a seed "
                             f"({', '.join(map(str, self.settings.seeds))}), for example {next(iter(cells))}")
        return cells[name]

    @property
    def storage(self) -> str:
        """Address of the database with the search's trials: STUDY_STORAGE if it is set, else an SQLite file.

        Workers on several machines need one that all can reach. `optuna-dashboard` shows it.
        """
        path = self.state.resolve() / f"search-{self.settings.name}.db"
        return os.environ.get(STORAGE) or f"sqlite:///{path}"
