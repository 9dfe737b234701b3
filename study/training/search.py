"""Hyper-parameter search with Optuna before any cell is trained.

Every tuned arm gets the same number of trials at the same budget, on a seed that no reported cell uses, scored by
validation NLL. An arm that is not tuned takes what was best for the nearest tuned arm that it descends from (or for the
first tuned one), so that it differs from its baseline in nothing else. The sampler is seeded by the number of the
trial: a search that is stopped and gone on with makes the same trials as one that never stopped. Trials of different
arms know nothing of each other, so arms can be tuned side by side, on several machines through one storage, with the
same trials again; those of one arm follow each other, for each is chosen by the ones before.
"""
from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable

import yaml

from study import StudyError
from study.config.load import Study, lineage, resolve
from study.config.schema import RunConfig
from study.files import write_atomically, write_json
from study.model.heads import use_processor
from study.orchestration.code_identity import code_hash
from study.training.pretrain import arm_settings, as_yaml, load_data
from study.training.trainer import Data, Trainer
from study.training.trial_storage import open_storage

WARMUP_TRIALS = 3                           # random trials before TPE has something to go on


def search(study: Study, progress: Callable = lambda items, **_: items) -> dict:
    """Runs what is left of the search; writes best.yaml (tuned values of every arm), trials.json and `<arm>.yaml`, the
    settings that each arm is trained with. Returns best.yaml's content.

    The storage is kept, so that a search goes on where it stopped.
    """
    settings, folder = study.settings.search, study.runs / "search"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.yaml"):
        old.unlink()
    best, trials = {}, []
    if settings.trials:
        data = load_data(study)
        for arm in settings.arms:
            found = search_arm(study, arm, data, progress)
            best[arm] = {key: short(value) for key, value in found.best_params.items()}
            trials += [_described(arm, number, trial) for number, trial in enumerate(finished(found))]
    common = best.get(settings.arms[0], {}) if settings.arms else {}
    best = {arm: dict(_inherited(study, arm, best, common)) for arm in study.settings.arms}
    write_atomically(folder / "best.yaml", yaml.safe_dump(best).encode())
    for arm, values in best.items():
        config = resolve(study, arm, values)
        write_atomically(arm_settings(study, arm), as_yaml(config))
    write_json(folder / "trials.json", trials)
    return best


def _inherited(study: Study, arm: str, best: dict[str, dict], common: dict) -> dict:
    """The tuned values of the arm, or else of the nearest arm that it descends from and that was tuned."""
    line = reversed(lineage(study.arms, arm, study.root / "experiments" / "arms.yaml"))
    return next((best[name] for name in line if name in best), common)


def search_arm(study: Study, arm: str, data: Data, progress: Callable = lambda items, **_: items):
    """Runs what is left of one arm's trials; the Optuna study. One process at a time may work on an arm."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = study.settings.search
    if arm not in settings.arms:
        raise StudyError(f"{study.folder / 'params.yaml'}: search.arms: {arm} is not among them "
                         f"({', '.join(settings.arms) or 'none is tuned'})")
    found = optuna.create_study(storage=open_storage(study), load_if_exists=True, direction="minimize",
                                study_name=_name(study, arm, data),
                                pruner=optuna.pruners.MedianPruner(n_startup_trials=WARMUP_TRIALS))
    for trial in found.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        found.tell(trial.number, state=optuna.trial.TrialState.FAIL)      # left over from a search that was stopped
    done = finished(found)
    for number in progress(range(len(done), settings.trials), description=f"search {arm}",
                           total=settings.trials - len(done)):
        found.sampler = optuna.samplers.TPESampler(seed=settings.seed + number, n_startup_trials=WARMUP_TRIALS)
        found.optimize(lambda trial: _objective(study, arm, data, trial), n_trials=1)
    if settings.trials and not any(trial.state == optuna.trial.TrialState.COMPLETE for trial in found.trials):
        raise StudyError(f"search of {arm}: no trial finished; narrow search.space or give more search.steps")
    return found


def finished(found) -> list:
    """The trials of an Optuna study that count: complete or pruned."""
    from optuna.trial import TrialState

    return [trial for trial in found.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


def _name(study: Study, arm: str, data: Data) -> str:
    """Changes with anything that the trials depend on, so that old trials are never mixed with new ones."""
    content = json.dumps([resolve(study, arm).model_dump(mode="json"), study.settings.search.model_dump(mode="json"),
                          data.train.sha256, data.validation.hash, code_hash("search")], sort_keys=True)
    return f"{study.settings.name}/{arm}/{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _objective(study: Study, arm: str, data: Data, trial) -> float:
    import optuna

    tuned = {key: short(trial.suggest_float(key, space.low, space.high, log=space.log))
             for key, space in study.settings.search.space.items()}
    config = shortened(resolve(study, arm, tuned), study.settings.search.steps)
    use_processor(config)

    def report(record: dict, _: float) -> None:
        if "validation_nll" in record and record["step"] and record["step"] % config.training.eval_steps == 0:
            trial.report(record["validation_nll"], record["step"])
            if trial.should_prune():
                raise optuna.TrialPruned

    trainer = Trainer(config, data, study.settings.search.seed, on_record=report)
    done = trainer.train()
    nll = done.records[-1].get("validation_nll")
    if done.status == "diverged" or nll is None or not math.isfinite(nll):
        return math.log(data.tokenizer.vocabulary_size)
    return nll


def shortened(config: RunConfig, steps: int) -> RunConfig:
    """The cell with a budget of `steps`: warm-up and validations keep their share of the run."""
    training = config.training
    share = steps / training.steps
    changed = training.model_copy(update={
        "steps": steps, "warmup_steps": min(steps, round(training.warmup_steps * share)),
        "eval_steps": max(1, steps // 4), "logging_steps": max(1, steps // 4)})
    return config.model_copy(update={"training": changed})


def short(value: float) -> float:
    """Three significant digits: what a person would write, and what is trained with."""
    return float(f"{value:.3g}")


def _described(arm: str, number: int, trial) -> dict:
    """One trial as the report shows it: no times, and no attempt that a crash cut short, so that the same search gives
    the same bytes."""
    return {"arm": arm, "number": number, "state": trial.state.name.lower(), "value": trial.value,
            "params": trial.params, "curve": {str(step): value for step, value in
                                              sorted(trial.intermediate_values.items())}}
