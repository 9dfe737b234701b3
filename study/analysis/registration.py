"""The record of the claims before their arms are trained. A claim that is changed later is exploratory.

runs/<study>/claims.json is a list of registrations. Each has, for the claims that it registers, a hash of what decides
them and of what their arms are trained with, and the seeds of the study. If one of these differs later, the claim has
changed: adding seeds after a look at the results is optional stopping, and dropping some is selection. Entries of
earlier versions have no arms and seeds, and only what decides the claim is compared, unless these two were added to the
entry later. The report then says when.

The first registration is made before the first run of a study. Another one is added before a cell trains if there are
claims, new or changed, of which at least one arm has no results at the study's seeds: after an arm was added to the
study, for example, or if all seeds are new. A changed claim whose arms all have results, with whatever settings, stays
exploratory.
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from study.analysis.claims import AnyClaim, ComparisonClaim, TrainingClaim, arms_of, claim_hash, load_claims
from study.analysis.results import read_json
from study.analysis.verdict import why_untested
from study.config.arms import resolve_with
from study.config.fingerprint import kept_settings_yaml
from study.config.git import git_commit
from study.config.made_with import tuned_values
from study.config.study import Study
from study.config.yaml_files import parse_yaml
from study.files import write_json

NOT_THE_TEXT = {"local", "format", "quote"}     # settings of the corpus: where its copy is, and what may be shown


@dataclass(frozen=True)
class Registration:
    """Claims that were registered at one time: id -> hash. families: id -> the claims of its family by then.

    arms: arm -> hash (`arm_hash`), for the arms of these claims. seeds: those of the study. Both are None in entries of
    earlier versions. amended: when both were added, if that was after the runs; None otherwise.
    """
    date: str
    commit: str | None
    claims: dict[str, str]
    families: dict[str, list[str]]
    arms: dict[str, str] | None = None
    seeds: list[int] | None = None
    amended: str | None = None

    @property
    def hash(self) -> str:
        """12 hex digits that identify what was registered: the claims and their families, the arms and the seeds."""
        content = [self.claims, self.families]
        return _hash(content if self.seeds is None or self.amended else [*content, self.arms, self.seeds])


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def registration_path(study: Study) -> Path:
    return study.runs / "claims.json"


def read_registrations(study: Study) -> list[Registration]:
    """The registrations of a study, oldest first; empty if nothing was registered before the first run."""
    path = registration_path(study)
    return [Registration(**entry) for entry in read_json(path)] if path.exists() else []


def testable(study: Study, claims: dict[str, AnyClaim]) -> dict[str, AnyClaim]:
    """The claims that runs of this study decide."""
    return {name: claim for name, claim in claims.items()
            if isinstance(claim, TrainingClaim) and why_untested(study, claim) is None}


def registered_hashes(registrations: list[Registration]) -> dict[str, str]:
    """Id -> hash, as last registered."""
    return {name: value for entry in registrations for name, value in entry.claims.items()}


def registered_families(registrations: list[Registration]) -> dict[str, list[str]]:
    """Id of a claim -> the claims of its family when it was registered, itself among them."""
    return {name: members for entry in registrations for name, members in entry.families.items()}


def arm_hash(study: Study, arm: str) -> str:
    """12 hex digits that identify what an arm is trained with: its settings, with the values that the search has
    chosen, and those that say which text the corpus is.

    The settings are those in the settings.yaml of its cells. So a setting that is added later, or gets another name,
    leaves the hash as it was. The names and the descriptions of arms do not count.
    """
    settings = parse_yaml(kept_settings_yaml(study, arm, resolve_with(study, arm, tuned_values(study))))
    del settings["version"]
    corpus = study.settings.corpus.model_dump(mode="json", exclude_defaults=True, exclude=NOT_THE_TEXT)
    return _hash({"corpus": corpus, "settings": settings})


def register_claims(study: Study) -> None:
    """Registers the claims that are new or changed, unless all of their arms have results already.

    Claims are registered after the search has run, because it chooses settings of the arms.
    """
    earlier, trained = read_registrations(study), trained_arms(study)
    if (trained and not earlier) or not (study.runs / "search" / "best.yaml").exists():
        return                              # too late, or too early
    every = load_claims(study)
    new = {name: claim for name, claim in changed_claims(study, every, earlier).items()
           if not trained.issuperset(arms_of(claim))}
    if not new:
        return
    known = registered_hashes(earlier).keys() | new.keys()
    families = {name: [other for other, theirs in every.items() if other in known
                       and getattr(theirs, "family", None) == claim.family]
                for name, claim in new.items() if isinstance(claim, ComparisonClaim)}
    entry = Registration(date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), commit=git_commit(study.root),
                         claims={name: claim_hash(claim) for name, claim in new.items()}, families=families,
                         arms=_arm_hashes(study, new), seeds=study.settings.seeds)
    path, content = registration_path(study), asdict(entry)
    del content["amended"]
    write_json(path, [*(read_json(path) if earlier else []), content], sort_keys=True)


def trained_arms(study: Study) -> set[str]:
    """The arms of which at least one cell has results.

    DVC deletes training.json before it trains a cell again, of all cells of an arm if they run at once. The scores are
    still there then.
    """
    return {arm for arm, seed in study.cells
            if any((study.cell(arm, seed) / name).exists() for name in ("training.json", "evaluation.json"))}


def changed_claims(study: Study, claims: dict[str, AnyClaim],
                   registrations: list[Registration]) -> dict[str, AnyClaim]:
    """The claims that this study tests, and that are not as last registered: new, or with another rule, other settings
    of an arm, or other seeds."""
    tested = testable(study, claims)
    last = {name: entry for entry in registrations for name in entry.claims}
    arms, seeds = _arm_hashes(study, tested), set(study.settings.seeds)

    def unchanged(name: str, claim: AnyClaim) -> bool:
        entry = last.get(name)
        if entry is None or entry.claims[name] != claim_hash(claim):
            return False
        return entry.seeds is None or (set(entry.seeds) == seeds
                                       and all(entry.arms.get(arm) == arms[arm] for arm in arms_of(claim)))

    return {name: claim for name, claim in tested.items() if not unchanged(name, claim)}


def _arm_hashes(study: Study, claims: dict[str, AnyClaim]) -> dict[str, str]:
    """The arms of these claims, each with its hash."""
    arms = sorted({arm for claim in claims.values() for arm in arms_of(claim)})
    return {arm: arm_hash(study, arm) for arm in arms}


def exploratory(study: Study, claims: dict[str, AnyClaim]) -> set[str]:
    """Ids of the claims that this study tests, and that are not as registered before their arms had results."""
    return set(changed_claims(study, claims, read_registrations(study)))
