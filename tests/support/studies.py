"""Small studies and texts that tests share."""
import hashlib
import os
import shutil
from pathlib import Path

import numpy as np

from study.config.load import load_study
from study.config.study import Study
from study.data.corpus_synthetic import write_synthetic_corpus
from study.data.examples import write_examples
from study.data.synthetic_floor import synthetic_floor
from study.data.wordpiece import write_tokenizer
from tests.support.shared import made_once

ROOT = Path(__file__).parents[2]


def tiny_study(root: Path, change=lambda text: text) -> Study:
    """The tiny study in the new folder `root`, with its data and no search trials; `change` edits its params.yaml."""
    (root / "experiments").mkdir(parents=True)
    for name in ("arms.yaml", "claims.yaml"):
        shutil.copy(ROOT / "experiments" / name, root / "experiments")
    params = (ROOT / "experiments/tiny/params.yaml").read_text().replace("root: ../..", "root: .")
    (root / "params.yaml").write_text(change(params.replace("trials: 2", "trials: 0")))
    study = load_study(root)
    content = study.settings.model_dump_json(include={"name", "corpus", "tokenizer", "examples", "probe"})
    if study.settings.evaluation.minimal_pairs:
        content += os.environ["STUDY_DATA"]             # whose pairs are the corpus's, too
    data = made_once(f"data-{hashlib.sha256(content.encode()).hexdigest()[:12]}",
                     lambda folder: write_synthetic_data(study.model_copy(update={"folder": folder})))
    shutil.copytree(data / "runs" / study.settings.name, study.runs)
    return study


def write_synthetic_data(study: Study) -> None:
    """Runs the corpus, tokenizer and examples stages of a synthetic study, without the baselines."""
    write_synthetic_corpus(study, study.runs / "corpus")
    write_tokenizer(study, study.runs / "tokenizer")
    write_examples(study, study.runs / "examples", synthetic_floor(study))


SYLLABLES = ["ba", "de", "fi", "go", "lu", "ma", "ne", "pi", "ro", "su", "tan", "vek"]


def made_up_documents(count: int = 12, seed: int = 0):
    """Documents of 1 to 3 paragraphs of 2 to 6 sentences of made-up words of 1 to 4 syllables."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(SYLLABLES, rng.integers(1, 5))) for _ in range(120)]

    def sentence():
        return " ".join(rng.choice(words, rng.integers(3, 12))) + " ."

    return [[[sentence() for _ in range(rng.integers(2, 7))] for _ in range(rng.integers(1, 4))] for _ in range(count)]


def changed(config, **sections):
    """The settings with other values in some sections: changed(config, model={"norm": "pre"})."""
    content = config.model_dump()
    for section, values in sections.items():
        content[section] |= values
    return type(config).model_validate(content)
