"""Bad input: one line that names the file, key or row and says what to do, exit status 2, and nothing written."""
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from study.cli.app import main
from study.config.load import load_study
from tests.support.fake_results import compare, fake_study
from tests.support.studies import ROOT, made_up_documents, tiny_study


def edited(section: str | None, **values):
    """Changes keys of params.yaml (of a section of it)."""
    def spoil(root: Path) -> None:
        path = root / "params.yaml"
        content = yaml.safe_load(path.read_text())
        (content[section] if section else content).update(values)
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    return spoil


def task(**values):
    """Changes keys of the first probe task."""
    def spoil(root: Path) -> None:
        path = root / "params.yaml"
        content = yaml.safe_load(path.read_text())
        content["probe"]["tasks"][0].update(values)
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    return spoil


def written(name: str, content: bytes | str):
    """Puts something in the place of a file."""
    def spoil(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return spoil


def removed(name: str):
    def spoil(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return spoil


def cut(name: str, keep: float = 0.5):
    """A file that ends too soon."""
    def spoil(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[:int(len(content) * keep)])
    return spoil


def entry(file: str, name: str, **values):
    """Changes keys of one arm or claim."""
    def spoil(root: Path) -> None:
        path = root / "experiments" / file
        content = yaml.safe_load(path.read_text())
        content[name] |= values
        path.write_text(json.dumps(content))        # YAML too, and no text in it reads as a number
    return spoil


arm, claim = partial(entry, "arms.yaml"), partial(entry, "claims.yaml")


def rows(split: str, **columns):
    """Other rows in a split of the corpus."""
    def spoil(root: Path) -> None:
        pd.DataFrame(columns).to_parquet(root / f"data/words/{split}.parquet", index=False)
    return spoil


def labels(values):
    def spoil(root: Path) -> None:
        path = root / "data/topics/train.parquet"
        frame = pd.read_parquet(path)
        frame["label"] = [values[i % len(values)] for i in range(len(frame))]
        frame.to_parquet(path, index=False)
    return spoil


def ids_beyond_the_vocabulary(root: Path) -> None:
    path = root / "runs/tiny/examples/train/ids.bin"
    ids = np.fromfile(path, np.uint16)
    ids[5] = 60_000
    ids.tofile(path)


def number_in(name: str, *keys: str, value):
    """Another number in a JSON file."""
    def spoil(root: Path) -> None:
        content = json.loads((root / name).read_text())
        part = content
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        (root / name).write_text(json.dumps(content))
    return spoil


LINES = ["A made up line about nothing ."] * 40
SETTINGS = [
    ("unknown key", edited("training", learning_rat=1), "learning_rat; did you mean learning_rate?"),
    ("wrong type", edited("training", learning_rate="fast"), "training.learning_rate"),
    ("half a step", edited("training", steps=1.5), "training.steps"),
    ("no rate", edited("masking", mlm_probability=0), "masking.mlm_probability"),
    ("rate over one", edited("masking", mlm_probability=1.5), "masking.mlm_probability"),
    ("shares over one", edited("masking", mask=0.9), "mask + random + keep must be 1"),
    ("endless rate", edited("training", learning_rate=float("inf")), "training.learning_rate"),
    ("heads", edited("model", num_attention_heads=5), "is not a multiple of num_attention_heads 5"),
    ("rows too short", edited("examples", max_seq_length=4), "examples.max_seq_length"),
    ("warm-up beyond the end", edited("training", warmup_steps=10**6), "is more than steps"),
    ("accumulation", edited("training", gradient_accumulation_steps=3), "is not a multiple of gradient_accumulation_steps 3"),
    ("curriculum", edited("training", curriculum={"share": 0.5, "length": 0.3}), "training.curriculum.length"),
    ("pairs need pairs", edited("objective", pair="nsp"), "needs inputs.format segment-pairs"),
    ("no seeds", edited(None, seeds=[]), "seeds"),
    ("repeated seeds", edited(None, seeds=[1, 1]), "must not repeat"),
    ("no arms", edited(None, arms=[]), "arms"),
    ("unknown arm", edited(None, arms=["dynamic", "statc"]), "unknown arm 'statc'; did you mean static?"),
    ("baseline outside", edited(None, arms=["static"]), "is not among the study's arms"),
    ("searched seed", edited("search", seed=0), "search.seed 0 is one of the reported seeds"),
    ("searched setting", edited("search", space={"training.speed": {"low": 1, "high": 2, "log": False}}),
     "is no setting"),
    ("searched range", edited("search", space={"training.learning_rate": {"low": 2, "high": 1, "log": False}}),
     "search.space.training.learning_rate"),
    ("logarithm of nothing", edited("search", space={"training.learning_rate": {"low": 0, "high": 1, "log": True}}),
     "search.space.training.learning_rate"),
    ("one fold", edited("probe", folds=1), "probe.folds"),
    ("no tasks", edited("probe", tasks=[]), "probe.tasks"),
    ("no pooling", edited("probe", poolings=[]), "probe.poolings"),
    ("no C", edited("probe", regularization=[]), "probe.regularization"),
    ("one class", task(labels=["only"]), "labels"),
    ("a study outside", edited(None, study="../../elsewhere"), "study"),
    ("data outside", task(local="../../../etc"), "local"),
    ("data at an absolute path", task(local="/etc"), "local"),
    ("root without arms", edited(None, root="experiments"), "does not lead to experiments/arms.yaml"),
    ("not YAML", written("params.yaml", "study: [\n"), "params.yaml: cannot be read as YAML"),
    ("nothing", written("params.yaml", ""), "params.yaml: expected keys and values"),
    ("bytes", written("params.yaml", b"\xff\xfe\x00study"), "params.yaml: cannot be read"),
    ("no settings", removed("params.yaml"), "params.yaml: no such file"),
    ("arm without baseline", arm("static", baseline="dynamik"), "static: baseline 'dynamik' is no arm; did you mean"),
    ("arm of itself", arm("dynamic", baseline="static"), "go round in a circle"),
    ("arm's unknown key", arm("static", changes={"masking": {"schedul": "static"}}), "did you mean schedule?"),
    ("arm's impossible value", arm("static", changes={"masking": {"mlm_probability": 3}}), "static.changes"),
    ("arm that changes nothing", arm("static", changes={}), "does not differ from dynamic"),
]
TEXT = [
    ("empty corpus", rows("train", text=[]), "train.parquet: holds no rows"),
    ("one document", rows("train", text=LINES[:1]), "1 documents with text; at least 2 are needed"),
    ("blank rows", rows("train", text=["", " ", "\n"]), "0 documents with text"),
    ("not parquet", written("data/words/train.parquet", b"\x00\x01" * 999), "train.parquet: cannot be read as parquet"),
    ("cut parquet", cut("data/words/train.parquet"), "train.parquet: cannot be read as parquet"),
    ("missing column", rows("train", words=LINES), "no column 'text'; it has words"),
    ("numbers for text", rows("train", text=list(range(40))), "row 0: column 'text' holds 0, not text"),
    ("null row", rows("train", text=[*LINES, None, *LINES]), "row 40: column 'text' holds None, not text"),
    ("gigantic line", rows("train", text=[*LINES, "word " * 3_000_000]), "row 40"),
    ("no such split", removed("data/words/validation.parquet"), "put validation.parquet in"),
    ("labels out of range", labels([0, 1, 7]), "labels [0, 1, 7] do not match the 2 names"),
    ("negative labels", labels([-1, 0, 1]), "labels [-1, 0, 1] do not match"),
    ("labels that are words", labels(["a", "b"]), "label"),
    ("a label alone", labels([0]), "labels [0] do not match the 2 names"),
    ("label column", task(label="class"), "no column 'class'; it has text, label"),
    ("rows without text", lambda root: pd.DataFrame({"text": ["a", None], "label": [0, 1]}).to_parquet(
        root / "data/topics/test.parquet"), "row 1 has no text or label"),
    ("topics of a text", task(path="corpus"), "path `corpus` is the synthetic corpus's topics"),
]
TOKENIZER = [
    ("no such vocabulary", edited("tokenizer", source="nowhere.txt"), "nowhere.txt: no such file"),
    ("specials", lambda root: (written("words.txt", "a\nb\n[PAD]\n")(root),
                               edited("tokenizer", source="words.txt")(root)),
     "the vocabulary lacks [UNK], [CLS], [SEP], [MASK]"),
    ("a word twice", lambda root: (written("words.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\na\n")(root),
                                   edited("tokenizer", source="words.txt")(root)), "'a' stands twice"),
    ("no corpus", removed("runs/tiny/corpus"), "run `study corpus`"),
]
STAGES = [
    ("pretrain", "no search", removed("runs/tiny/search"), "run `study search`"),
    ("pretrain", "no tokenizer", removed("runs/tiny/tokenizer"), "run `study tokenizer`"),
    ("pretrain", "torn tokenizer", cut("runs/tiny/tokenizer/tokenizer.json"), "tokenizer.json: damaged"),
    ("pretrain", "no examples", removed("runs/tiny/examples"), "run `study examples`"),
    ("pretrain", "torn examples", cut("runs/tiny/examples/train/ids.bin"), "run `study examples`"),
    ("pretrain", "ids of another tokenizer", ids_beyond_the_vocabulary, "run `study examples`"),
    ("pretrain", "torn evaluation set", cut("runs/tiny/examples/validation.npz"), "run `study examples`"),
    ("pretrain", "settings by hand", written("runs/tiny/search/dynamic.yaml", "training: {}\n"), "missing key"),
    ("evaluate", "no weights", removed("runs/tiny/dynamic-0"), "no trained cell; run `study pretrain"),
    ("evaluate", "torn weights", cut("runs/tiny/dynamic-0/encoder.safetensors"), "damaged weights"),
    ("evaluate", "weights of other settings", lambda root: written(
        "runs/tiny/dynamic-0/settings.yaml", (root / "runs/tiny/dynamic-0/settings.yaml").read_text().replace(
            "num_hidden_layers: 2", "num_hidden_layers: 1"))(root), "do not fit each other"),
    ("evaluate", "torn test set", cut("runs/tiny/examples/test.npz"), "run `study examples`"),
    ("probe", "no baselines", removed("runs/tiny/examples/baselines.json"), "run `study examples`"),
    ("probe", "no rows", removed("runs/tiny/corpus/probe-topic-test.parquet"), "run `study corpus`"),
]
RESULTS = [
    ("compare", "claim of no arm", claim("L2", treatment="all-maks"), "all-maks is no arm"),
    ("compare", "claim of no metric", claim("L2", metric="nlll"), "L2: metric: Input should be"),
    ("compare", "claim of no kind", claim("L2", claim_type="rumour"), "claim_type: 'rumour' is none of"),
    ("compare", "claim against nothing", claim("L2", contradicts=["L99"]), "there is no claim L99"),
    ("compare", "no cell", removed("runs/tiny/static-1"), "static-1/evaluation.json: not there yet"),
    ("compare", "torn result", cut("runs/tiny/static-1/evaluation.json"), "static-1/evaluation.json: damaged"),
    ("compare", "torn curve", cut("runs/tiny/static-1/metrics.jsonl", 0.4), "static-1/metrics.jsonl: cannot be read"),
    ("compare", "torn sums", cut("runs/tiny/static-1/evaluation.npz"), "static-1/evaluation.npz: cannot be read"),
    ("compare", "another test set", number_in("runs/tiny/static-1/evaluation.json", "hash", value="ef01"),
     "were scored on different evaluation sets"),
    ("compare", "results from other settings", edited("training", weight_decay=0.5),
     "was trained with training.weight_decay 0.01"),
    ("report", "nothing compared", removed("reports/tiny/tables"), "run `study compare`"),
    ("report", "torn tables", written("reports/tiny/claims.json", "{"), "claims.json: damaged"),
]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Projects that are fine: settings; real text; a trained cell; results that nobody trained."""
    root = tmp_path_factory.mktemp("bases")
    trained = tiny_study(root / "trained")
    run = _main_in(trained.folder)
    for stage in ("examples", "search", "pretrain", "evaluate"):
        assert run(stage, *(("--arm", "dynamic", "--seed", "0") if stage in ("pretrain", "evaluate") else ())) == 0
    (root / "settings/experiments").mkdir(parents=True)
    for name in ("arms.yaml", "claims.yaml"):
        shutil.copy(ROOT / "experiments" / name, root / "settings/experiments")
    shutil.copy(trained.folder / "params.yaml", root / "settings")
    shutil.copytree(root / "settings", root / "text")
    _text(root / "text")
    compare(fake_study(root / "results"))
    return root


def _text(root: Path) -> None:
    texts = ["\n".join(" ".join(p) for p in document) for document in made_up_documents(30)]
    (root / "data/words").mkdir(parents=True)
    (root / "data/topics").mkdir()
    for split in ("train", "validation", "test"):
        pd.DataFrame({"text": texts}).to_parquet(root / f"data/words/{split}.parquet", index=False)
    for split in ("train", "test"):
        pd.DataFrame({"text": LINES, "label": [i % 2 for i in range(40)]}).to_parquet(
            root / f"data/topics/{split}.parquet", index=False)
    edited(None, corpus={
        "kind": "text", "path": "nobody/words", "name": None, "revision": None, "local": "words", "column": "text",
        "splits": {"train": "train", "validation": "validation", "test": "test"}, "layout": "documents",
        "language": "en", "max_documents": None, "quote": False})(root)
    edited("tokenizer", source="train", vocabulary_size=90)(root)
    task(path="nobody/topics", local="topics", labels=["a", "b"])(root)


def _main_in(folder: Path):
    def run(*arguments: str) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr("sys.argv", ["study", *arguments])
            patch.setenv("HF_HUB_OFFLINE", "1")
            try:
                main()
            except SystemExit as end:
                return end.code or 0
            return 0
    return run


def files(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in root.rglob("*") if path.is_file()}


def refused(root: Path, base: Path, spoil, said: str, capsys, *command: str) -> None:
    shutil.copytree(base, root, symlinks=True)
    spoil(root)
    before = files(root)
    capsys.readouterr()
    status, shown = _main_in(root)(*command), capsys.readouterr().err
    lines = [line for line in shown.splitlines() if line.strip()]
    assert len(lines) == 1, shown
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert status == 2
    assert files(root) == before


def _named(table: list) -> list:
    return [pytest.param(*case[:-3], *case[-2:], id="-".join(case[:-2]).replace(" ", "-")) for case in table]


@pytest.mark.parametrize(("spoil", "said"), _named(SETTINGS))
def test_settings(bases, tmp_path, capsys, spoil, said):
    refused(tmp_path / "root", bases / "settings", spoil, said, capsys, "corpus")


@pytest.mark.parametrize(("spoil", "said"), _named(TEXT))
def test_text(bases, tmp_path, capsys, spoil, said):
    refused(tmp_path / "root", bases / "text", spoil, said, capsys, "corpus")


@pytest.mark.parametrize(("spoil", "said"), _named(TOKENIZER))
def test_tokenizer(bases, tmp_path, capsys, spoil, said):
    refused(tmp_path / "root", bases / "trained", spoil, said, capsys, "tokenizer")


@pytest.mark.parametrize(("stage", "spoil", "said"), _named(STAGES))
def test_what_a_stage_finds(bases, tmp_path, capsys, stage, spoil, said):
    refused(tmp_path / "root", bases / "trained", spoil, said, capsys, stage, "--arm", "dynamic", "--seed", "0")


@pytest.mark.parametrize(("stage", "spoil", "said"), _named(RESULTS))
def test_results(bases, tmp_path, capsys, stage, spoil, said):
    refused(tmp_path / "root", bases / "results", spoil, said, capsys, stage)


def test_all_of_it_is_fine_as_long_as_nobody_spoils_it(bases, tmp_path):
    for base, *commands in (("text", "corpus", "tokenizer"), ("trained", "tokenizer"),
                            ("results", "compare", "report")):
        shutil.copytree(bases / base, tmp_path / base, symlinks=True)
        assert load_study(tmp_path / base).settings.arms
        for command in commands:
            assert _main_in(tmp_path / base)(command) == 0
