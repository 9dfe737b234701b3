"""The examples stage on a text whose few pairs have no masked token: it is treated as a text without pairs."""
import json

import numpy as np
import pytest

from study import StudyError
from study.data import examples
from study.data.evaluation_sets import PAIR_SET, load_evaluation_set


@pytest.fixture
def unmasked(monkeypatch):
    """No token of the validation pairs is masked."""
    build = examples.build_evaluation_set

    def without_masks(*arguments, documents, **options):
        arrays = build(*arguments, documents=documents, **options)
        return arrays if documents else arrays | {f"{PAIR_SET}/kind": np.zeros_like(arrays[f"{PAIR_SET}/kind"])}

    monkeypatch.setattr(examples, "build_evaluation_set", without_masks)


def of_arms(study, *arms: str):
    return study.model_copy(update={"settings": study.settings.model_copy(update={"arms": list(arms)})})


def test_pairs_without_a_masked_token_are_none(tiny, tmp_path, unmasked):
    references = examples.write_examples(of_arms(tiny, "dynamic"), tmp_path)
    assert references["ladder"].keys() == {"validation", "test"}
    assert load_evaluation_set(tmp_path / "validation.npz").pairs == {}
    assert load_evaluation_set(tmp_path / "test.npz").pairs == {}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "No token of the pairs of the split validation is masked" in " ".join(summary["warnings"])


def test_an_arm_on_such_pairs_is_refused(tiny, tmp_path, unmasked):
    with pytest.raises(StudyError, match=r"arms: mlm-nsp cannot be built from the split validation \(no token of"):
        examples.write_examples(of_arms(tiny, "dynamic", "mlm-nsp"), tmp_path)
