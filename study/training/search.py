"""The search stage: hyperparameter search with Optuna before any cell is trained.

Every tuned arm gets the same number of trials and steps, with a seed that no reported cell uses. The score is the
validation NLL. An arm that is not tuned takes the best values of its nearest tuned ancestor, or else of the first tuned
arm, so that it differs from its baseline in nothing else.

The sampler is seeded with the number of the trial, so an interrupted search that is resumed makes the same trials as an
uninterrupted one. The trials of one arm are sequential, because each depends on the earlier ones. Those of different
arms are independent, so arms can be tuned in parallel, on several machines with a shared storage, with the same result.
"""
from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable

import yaml

from study import StudyError
from study.config.arms import branch_of, lineage, resolve, resolve_with
from study.config.fingerprint import kept_settings_yaml, recorded
from study.config.made_with import MADE_WITH, write_made_with
from study.config.schema import RunConfig, Training
from study.config.study import Study
from study.files import write_atomically, write_json
from study.model.kernels import configure_processor
from study.training.pretrain import arm_settings, load_data
from study.training.trainer import Data, Trainer
from study.training.trial_storage import open_storage

RANDOM_TRIALS = 3                           # before TPE and the pruner have enough trials to learn from


def search(study: Study, progress: Callable = lambda items, **_: items, code_hash: str = "") -> dict:
    """Runs the remaining trials of every tuned arm. Returns the tuned values of every arm that the study trains, and of
    the arms that they start from.

    Writes best.yaml (the tuned values), trials.json, made_with.yaml, and for every arm `<arm>.yaml`, the settings that
    it is trained with. Trials are kept in the storage, so an interrupted search resumes. Trials made under another
    `code_hash` are not reused.
    """
    settings, folder = study.settings.search, study.runs / "search"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.yaml"):
        old.unlink()
    tuned, trials = {}, []
    if settings.trials:
        data = load_data(study)
        for arm in settings.arms:
            result = search_arm(study, arm, data, progress, code_hash)
            tuned[arm] = {key: short(value) for key, value in result.best_params.items()}
            trials += [_description(arm, number, trial) for number, trial in enumerate(finished(result))]
    default = tuned.get(settings.arms[0], {}) if settings.arms else {}
    branches = (branch_of(study.arms, arm, study.arms_path) for arm in study.settings.arms)
    arms = dict.fromkeys([*study.settings.arms, *(branch.arm for branch in branches if branch is not None)])
    best = {arm: dict(_nearest_tuned(study, arm, tuned, default)) for arm in arms}
    write_atomically(folder / "best.yaml", yaml.safe_dump(best).encode())
    for arm in study.settings.arms:
        config = resolve_with(study, arm, best)
        write_atomically(arm_settings(study, arm), kept_settings_yaml(study, arm, config))
    write_json(folder / "trials.json", trials)
    write_made_with(study, "search", folder / MADE_WITH)
    return best


def _nearest_tuned(study: Study, arm: str, tuned: dict[str, dict], default: dict) -> dict:
    """The tuned values of the arm or of its nearest ancestor that has any, else `default`."""
    names = reversed(lineage(study.arms, arm, study.arms_path))
    return next((tuned[name] for name in names if name in tuned), default)


def search_arm(study: Study, arm: str, data: Data, progress: Callable = lambda items, **_: items,
               code_hash: str = ""):
    """Runs the remaining trials of one arm and returns the Optuna study. Only one process may work on an arm.

    Raises StudyError if the arm is not tuned or no trial finishes.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = study.settings.search
    if arm not in settings.arms:
        raise StudyError(f"{study.params_path}: search.arms: {arm} is not among them "
                         f"({', '.join(settings.arms) or 'none is tuned'})")
    optuna_study = optuna.create_study(storage=open_storage(study), load_if_exists=True, direction="minimize",
                                       study_name=_name(study, arm, data, code_hash),
                                       pruner=optuna.pruners.MedianPruner(n_startup_trials=RANDOM_TRIALS))
    for trial in optuna_study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        optuna_study.tell(trial.number, state=optuna.trial.TrialState.FAIL)     # from a search that was interrupted
    done = len(finished(optuna_study))
    for number in progress(range(done, settings.trials), description=f"search {arm}", total=settings.trials - done):
        optuna_study.sampler = optuna.samplers.TPESampler(seed=settings.seed + number, n_startup_trials=RANDOM_TRIALS)
        optuna_study.optimize(lambda trial: _score(study, arm, data, trial), n_trials=1)
    if settings.trials and not any(trial.state == optuna.trial.TrialState.COMPLETE for trial in optuna_study.trials):
        raise StudyError(f"search of {arm}: no trial finished; narrow search.space or increase search.steps")
    return optuna_study


def finished(optuna_study) -> list:
    """Returns the trials that count: complete or pruned."""
    from optuna.trial import TrialState

    return [trial for trial in optuna_study.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


def _name(study: Study, arm: str, data: Data, code_hash: str) -> str:
    """The name of the Optuna study. It changes with everything that a trial depends on, so old trials are not used."""
    search = study.settings.search.model_dump(mode="json", exclude_defaults=True)
    content = json.dumps([recorded(resolve(study, arm)), search, data.train.sha256, data.validation.hash, code_hash],
                         sort_keys=True)
    return f"{study.settings.name}/{arm}/{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _score(study: Study, arm: str, data: Data, trial) -> float:
    """Trains one trial and returns its last validation NLL; that of guessing if it diverged."""
    import optuna

    tuned = {key: short(trial.suggest_float(key, space.low, space.high, log=space.log))
             for key, space in study.settings.search.space.items()}
    config = shortened(resolve(study, arm, tuned), study.settings.search.steps)
    configure_processor(config.training.threads)

    def report(record: dict, _: float) -> None:
        if "validation_nll" in record and record["step"] and record["step"] % config.training.eval_steps == 0:
            trial.report(record["validation_nll"], record["step"])
            if trial.should_prune():
                raise optuna.TrialPruned

    run = Trainer(config, data, study.settings.search.seed, on_record=report).train()
    nll = run.records[-1].get("validation_nll")
    if run.status == "diverged" or nll is None or not math.isfinite(nll):
        return math.log(data.tokenizer.vocabulary_size)
    return nll


def shortened(config: RunConfig, steps: int) -> RunConfig:
    """Returns a copy of the settings with a different number of steps. Warm-up takes the same fraction of the steps,
    and at least one if there was any; there are four validations."""
    training = config.training
    warmup_steps = min(steps, round(training.warmup_steps * (steps / training.steps)))
    changes = {"steps": steps, "warmup_steps": max(warmup_steps, min(1, training.warmup_steps)),
               "eval_steps": max(1, steps // 4), "logging_steps": max(1, steps // 4)}
    return config.model_copy(update={"training": Training.model_validate(training.model_dump() | changes)})


def short(value: float) -> float:
    """Returns three significant digits, which is what the cells are trained with."""
    return float(f"{value:.3g}")


def _description(arm: str, number: int, trial) -> dict:
    """One trial in trials.json. Times and interrupted trials are left out, so the same search gives the same bytes."""
    return {"arm": arm, "number": number, "state": trial.state.name.lower(), "value": trial.value,
            "params": trial.params, "curve": {str(step): value for step, value in
                                              sorted(trial.intermediate_values.items())}}
