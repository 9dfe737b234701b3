"""The hub's client: it is told nothing, and does not wait for a hub that cannot be reached."""
import os
import re
import socket
import time
from types import SimpleNamespace

import datasets
import pytest
from huggingface_hub import constants

from study import StudyError
from study.data.download import download
from study.data.hub import CONNECT_SECONDS, can_reach_hub, quiet_client
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


@pytest.fixture
def online(monkeypatch):
    """A client that is neither offline nor behind a proxy."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("study.data.hub.getproxies", dict)


def closed_port() -> int:
    """A port of this machine that refuses connections."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_hub_that_accepts_connections_can_be_reached(online, monkeypatch, server):
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server}")
    assert can_reach_hub()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:{port}", "https://elsewhere.example"])
def test_a_hub_that_refuses_or_has_no_address_cannot(online, monkeypatch, endpoint):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint.format(port=closed_port()))
    assert not can_reach_hub()


def test_a_client_that_works_offline_asks_nothing(online, monkeypatch, server):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server}")
    assert not can_reach_hub()


@pytest.mark.parametrize(("proxies", "reached"), [
    ({"http": "http://127.0.0.1:{open}"}, True), ({"http": "http://127.0.0.1:{closed}"}, False),
    ({"all": "socks5://127.0.0.1:{open}"}, True), ({"all": "socks5://127.0.0.1:{closed}"}, False),
    ({"https": "http://127.0.0.1:{open}"}, False),      # for other addresses
    ({"http": "http://127.0.0.1:port"}, True), ({"http": "127.0.0.1"}, True), ({"all": "socks5://127.0.0.1"}, True)])
def test_behind_a_proxy_the_proxy_is_what_must_be_reached(online, monkeypatch, server, proxies, reached):
    """What cannot be understood is left to the client, which says what is wrong."""
    closed = closed_port()
    monkeypatch.setattr("study.data.hub.getproxies", lambda: {
        scheme: address.format(open=server, closed=closed) for scheme, address in proxies.items()})
    monkeypatch.setattr(constants, "ENDPOINT", f"http://elsewhere.example:{closed}")
    assert can_reach_hub() is reached


def test_a_hub_without_a_proxy_is_reached_directly(online, monkeypatch, server):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("study.data.hub.getproxies", lambda: {"http": f"http://127.0.0.1:{closed_port()}"})
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server}")
    assert can_reach_hub()


def test_all_addresses_together_have_a_few_seconds(online, monkeypatch):
    """Here each takes the time that it is given."""
    clock, waits = [0.0], []

    class Silent(socket.socket):
        def connect(self, address):
            waits.append(self.gettimeout())
            clock[0] += self.gettimeout()
            raise TimeoutError

    monkeypatch.setattr("study.data.hub.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("study.data.hub.socket.socket", Silent)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))] * 8)
    assert not can_reach_hub()
    assert sum(waits) == pytest.approx(CONNECT_SECONDS, abs=0.2)


def test_the_client_reports_nothing_unless_the_environment_says_so(monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "3")
    quiet_client()
    assert {name: os.environ[name] for name in ENVIRONMENT} == ENVIRONMENT | {"HF_HUB_DOWNLOAD_TIMEOUT": "3"}


def test_a_refused_connection_fails_within_seconds(online, study, monkeypatch):
    """The client alone would try again for 23 s and more."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s"))
    with pytest.raises(StudyError, match="nobody/words .train. could not be loaded from the hub; put train.parquet in"):
        load_from_hub(study, SOURCE, "train", None)


def test_two_splits_that_would_have_one_file_are_refused(study, monkeypatch):
    def source(split):
        return SimpleNamespace(path="nobody/words", local="words", splits={"train": split})

    monkeypatch.setattr("study.data.download.local_sources", lambda study: [source("train[:90%]"), source("train")])
    with pytest.raises(StudyError, match=r"local: words` would have one file train for train\[:90%\] of nobody/words "
                                         r"and for train of nobody/words; give one of the two another folder"):
        next(download(study))
