"""The hub's client: it is told nothing, and does not wait for a hub that cannot be reached."""
import os
import re
from types import SimpleNamespace

import datasets
import pytest
from huggingface_hub import constants

from study import StudyError
from study.data.local_files import ENVIRONMENT
from study.data.sources import data_folder, load_from_hub

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


@pytest.mark.parametrize(("local", "remedy"), [
    (None, "put dev.parquet in {data}/words and set `local: words`: not there"),
    ("texts", "put dev.parquet in {data}/texts: not there")])
def test_a_failed_download_names_the_file_that_would_do_and_no_setting_that_is_set(study, monkeypatch, local, remedy):
    def load(*_, **__):
        raise OSError("not there")

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = SimpleNamespace(**vars(SOURCE) | {"local": local, "splits": {"validation": "dev"}})
    with pytest.raises(StudyError, match=f"{re.escape(remedy.format(data=data_folder(study.root)))}$"):
        load_from_hub(study, source, "validation", None)


def test_a_folder_with_the_name_of_a_data_set_is_not_read_in_its_place(study, tmp_path, monkeypatch):
    def load(*_, **__):
        raise AssertionError("read")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nobody/words").mkdir(parents=True)
    with pytest.raises(StudyError, match="is to be read from the hub, but .*nobody/words has the same name; rename it, "
                                         "or run the command in another folder; to read it, move it below .*data and "
                                         "set `local: nobody/words`"):
        load_from_hub(study, SOURCE, "train", None)
