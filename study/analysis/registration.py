"""The record of the claims before their arms are trained. A claim that is changed later is exploratory.

runs/<study>/claims.json is a list of registrations. The first is made before the first run of a study. Another one is
added before a cell trains if there are claims, new or changed, of which at least one arm has no run yet: for example
after an arm was added to the study.
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
from study.config.git import git_commit
from study.config.study import Study
from study.files import write_json


@dataclass(frozen=True)
class Registration:
    """Claims that were registered at one time: id -> hash. families: id -> the claims of its family by then."""
    date: str
    commit: str | None
    claims: dict[str, str]
    families: dict[str, list[str]]

    @property
    def hash(self) -> str:
        """12 hex digits that identify the claims and their families."""
        content = json.dumps([self.claims, self.families], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


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


def register_claims(study: Study) -> None:
    """Registers the claims that are new or changed, unless all of their arms have runs already."""
    earlier, trained = read_registrations(study), trained_arms(study)
    if trained and not earlier:
        return                              # too late
    every, hashes = load_claims(study), registered_hashes(earlier)
    claims = testable(study, every)
    new = {name: claim_hash(claim) for name, claim in claims.items()
           if hashes.get(name) != claim_hash(claim) and not trained.issuperset(arms_of(claim))}
    if not new:
        return
    known = hashes.keys() | new.keys()
    families = {name: [other for other, theirs in every.items() if other in known
                       and getattr(theirs, "family", None) == claims[name].family]
                for name in new if isinstance(claims[name], ComparisonClaim)}
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    entries = [*earlier, Registration(now, git_commit(study.root), new, families)]
    write_json(registration_path(study), [asdict(entry) for entry in entries], sort_keys=True)


def trained_arms(study: Study) -> set[str]:
    """The arms of which at least one cell has been trained."""
    return {arm for arm, seed in study.cells if (study.cell(arm, seed) / "training.json").exists()}


def exploratory(study: Study, claims: dict[str, AnyClaim]) -> set[str]:
    """Ids of the claims that this study tests, and that are not decided as registered before their arms had runs."""
    hashes = registered_hashes(read_registrations(study))
    return {name for name, claim in testable(study, claims).items() if hashes.get(name) != claim_hash(claim)}
