"""What `study register` does when a registered cell was trained or evaluated again."""
import json
from types import SimpleNamespace

import pytest

from study.tracking import registry
from tests.support.fake_results import fake_study


class Client:
    """The part of MlflowClient that registers models, in memory."""

    def __init__(self):
        self.models, self.versions, self.aliases, self.artifacts = [], [], {}, []

    def search_registered_models(self, _):
        return self.models

    def create_registered_model(self, name, description):
        self.models.append(name)

    def search_model_versions(self, _):
        return self.versions

    def create_model_version(self, name, source, run_id, tags, description):
        self.versions.append(SimpleNamespace(version=str(len(self.versions) + 1), source=source, run_id=run_id,
                                             tags=tags, description=description))
        return self.versions[-1]

    def update_model_version(self, name, version, description):
        self.versions[int(version) - 1].description = description

    def set_registered_model_alias(self, name, alias, version):
        self.aliases[alias] = version

    def log_artifacts(self, run, folder, artifact):
        self.artifacts.append(f"runs:/{run}/{artifact}")


@pytest.fixture
def register(tmp_path, monkeypatch):
    """Registers the cell dynamic-0, whose files may be changed before."""
    study, client = fake_study(tmp_path / "study"), Client()
    monkeypatch.setattr(registry, "_save_model", lambda *arguments: None)

    def call(file: str, **changes) -> str:
        path = study.cell("dynamic", 0) / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return registry._register(study, client, "arm", "dynamic", 0, 4)

    return client, call


def hashes(digit: str) -> dict[str, str]:
    return {"encoder.safetensors": digit * 32, "heads.safetensors": digit * 32}


def test_other_weights_with_the_same_fingerprint_are_a_new_version(register):
    client, call = register
    assert call("training.json", weights=hashes("a")) == "1"
    assert call("training.json", weights=hashes("a")) == "1"
    assert call("training.json", weights=hashes("b")) == "2"
    assert client.aliases == {"best": "2"}
    assert [version.source for version in client.versions] == client.artifacts     # each has its own folder
    assert len(set(client.artifacts)) == 2
    assert call("training.json", weights=hashes("a")) == "1"       # the old code again
    assert client.aliases == {"best": "1"}


def test_other_scores_of_the_same_weights_update_the_card(register):
    client, call = register
    assert call("training.json", weights=hashes("a")) == "1"
    assert call("evaluation.json", mask_only={"perplexity": 12.34, "unigram_perplexity": 50.0}) == "1"
    (version,) = client.versions
    assert "12.34" in version.description


def test_a_cell_without_hashes_of_its_weights_is_registered_once(register):
    _, call = register
    assert call("training.json") == call("training.json") == "1"
