"""Every setting with its type, bounds and meaning.

Files must be complete: an unknown or missing key is an error. How to change the settings:

- Add a setting: declare it with a docstring and a default that equals the old behaviour. Files may then omit it. At its
  default it is left out of fingerprints and of settings.yaml, so no existing cell becomes stale, and older files
  still load. Never change such a default later: older cells rely on it. Other settings have no default.
- Rename or remove a setting: raise VERSION in study/config/versions.py and add the upgrade from the version before.

These files are not part of the code identity of a stage (study/orchestration/code_identity.py), because a setting
affects a stage only through its value. So they declare and validate; they must not compute anything that a stage uses.
"""
from study.config.schema.base import Name, Settings
from study.config.schema.branch import Branch, RunConfig
from study.config.schema.corpus import Synthetic, Text
from study.config.schema.evaluation import Evaluation, MinimalPairs
from study.config.schema.finetune import Finetune, FinetuneRecipe, FinetuneTask
from study.config.schema.model import Model
from study.config.schema.probe import Probe, ProbeTask
from study.config.schema.rows import Examples, Inputs, Masking, Objective, Tokenizer
from study.config.schema.run import Recipe
from study.config.schema.study import Arm, From, Search, SearchRange, StudyConfig
from study.config.schema.training import Curriculum, Training

__all__ = ["Arm", "Branch", "Curriculum", "Evaluation", "Examples", "Finetune", "FinetuneRecipe", "FinetuneTask",
           "From", "Inputs", "Masking", "MinimalPairs", "Model", "Name", "Objective", "Probe", "ProbeTask", "Recipe",
           "RunConfig", "Search", "SearchRange", "Settings", "StudyConfig", "Synthetic", "Text", "Tokenizer",
           "Training"]
