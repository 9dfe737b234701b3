"""What a stage cannot use: one line that names the file and the stage to run, exit status 2, nothing written."""
from pathlib import Path

import numpy as np
import pytest

from tests.support.bad_input import assert_refused, cases, removed, truncated, written


def ids_beyond_the_vocabulary(root: Path) -> None:
    path = root / "runs/tiny/examples/train/ids.bin"
    ids = np.fromfile(path, np.uint16)
    ids[5] = 60_000
    ids.tofile(path)


def narrower_layers(root: Path) -> None:
    """In the settings of the study and in those that are recorded with the weights."""
    for path in (root / "params.yaml", root / "runs/tiny/dynamic-0/settings.yaml"):
        path.write_text(path.read_text().replace("intermediate_size: 64", "intermediate_size: 40"))


STAGES = [
    ("pretrain", "no search", removed("runs/tiny/search"), "run `study search`"),
    ("pretrain", "no tokenizer", removed("runs/tiny/tokenizer"), "run `study tokenizer`"),
    ("pretrain", "torn tokenizer", truncated("runs/tiny/tokenizer/tokenizer.json"), "tokenizer.json: damaged"),
    ("pretrain", "no examples", removed("runs/tiny/examples"), "run `study examples`"),
    ("pretrain", "torn examples", truncated("runs/tiny/examples/train/ids.bin"), "run `study examples`"),
    ("pretrain", "ids of another tokenizer", ids_beyond_the_vocabulary, "run `study examples`"),
    ("pretrain", "torn evaluation set", truncated("runs/tiny/examples/validation.npz"), "run `study examples`"),
    ("pretrain", "settings by hand", written("runs/tiny/search/dynamic.yaml", "training: {}\n"), "missing key"),
    ("evaluate", "no weights", removed("runs/tiny/dynamic-0"), "no trained cell; run `study pretrain"),
    ("evaluate", "torn weights", truncated("runs/tiny/dynamic-0/encoder.safetensors"), "damaged weights"),
    ("evaluate", "weights of other settings", narrower_layers, "the weights do not match settings.yaml"),
    ("evaluate", "torn test set", truncated("runs/tiny/examples/test.npz"), "run `study examples`"),
    ("evaluate", "no baselines", removed("runs/tiny/examples/baselines.json"), "run `study examples`"),
    ("evaluate", "no probe rows", removed("runs/tiny/corpus/probe-topic-test.parquet"), "run `study corpus`"),
]


@pytest.mark.parametrize(("stage", "spoil", "message"), cases(STAGES))
def test_unusable_files_of_an_earlier_stage_are_refused(trained_tiny, tmp_path, capsys, stage, spoil, message):
    assert_refused(tmp_path / "root", trained_tiny, spoil, message, capsys, stage, "--arm", "dynamic", "--seed", "0")
