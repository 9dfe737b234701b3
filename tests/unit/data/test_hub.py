"""The hub's client: it is told nothing, and does not wait for a hub that cannot be reached."""
import os
from types import SimpleNamespace

import datasets
import pytest
from huggingface_hub import constants

from study import StudyError
from study.data.sources import ENVIRONMENT, load_from_hub

SOURCE = SimpleNamespace(path="nobody/words", local=None, revision=None, splits={"train": "train"})


@pytest.mark.parametrize(("said", "offline"), [(None, True), ("0", False)])
def test_without_a_connection_only_the_cache_is_read(study, monkeypatch, said, offline):
    """The client has read the environment by now. What the user says there counts."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")           # so that it is as before after the test
    if said is None:
        monkeypatch.delenv("HF_HUB_OFFLINE")
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    seen = []

    def load(*_, **__):
        seen.append((constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE))
        raise OSError("not there")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(StudyError, match="could not be loaded from the hub"):
        load_from_hub(study, SOURCE, "train", None)
    assert seen == [(offline, offline)]
    assert {name: os.environ[name] for name in ENVIRONMENT} == ENVIRONMENT
