"""Training in tests, in one line each."""
import optuna

from study.training.trainer import Trainer


def trained(config, data, seed=0, **more):
    trainer = Trainer(config, data, seed, **more)
    return trainer, trainer.train()


def weights(trainer):
    return trainer.model.state_dict()



def counts(storage: str) -> dict[str, int]:
    """Trials of each tuned arm in a storage."""
    return {name.split("/")[1]: len(optuna.load_study(storage=storage, study_name=name).trials)
            for name in optuna.get_all_study_names(storage)}

