"""The command line: parse, load settings, call one function."""
from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from study import StudyError

# Nothing that a study runs reports home.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "true")

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
                  help="A reproducibility study of BERT pre-training. `dvc repro` runs the stages below in order; "
                       "each can also be run by hand.")
Folder = Annotated[Path, typer.Argument(help="the study: a folder with params.yaml", show_default="this folder")]
Arm = Annotated[str, typer.Option(help="arm, as in experiments/arms.yaml")]
Seed = Annotated[int, typer.Option(help="seed of the cell")]
Cell = Annotated[str, typer.Option(help="cell: arm and seed, as dynamic-0")]
STAGES, READ, SEE = "Stages of the pipeline", "Looking at results", "Seeing what an arm does"


def _load(folder: Path):
    from study.config import load_study

    return load_study(folder)


def _say(text: str) -> None:
    print(text, flush=True)


@app.command(rich_help_panel=STAGES)
def corpus(folder: Folder = Path(".")):
    """Text as documents of sentences, and the rows of the probe tasks. Example: study corpus experiments/tiny"""
    from study.console import track
    from study.data.corpus import write_corpus

    study = _load(folder)
    counts = write_corpus(study, study.runs / "corpus", track)["counts"]
    _say(f"corpus: {counts['train_documents']:,} training documents, {counts['train_words']:,} words")


@app.command(rich_help_panel=STAGES)
def tokenizer(folder: Folder = Path(".")):
    """A WordPiece vocabulary. Example: study tokenizer experiments/tiny"""
    from study.console import track
    from study.data.tokenizer import write_tokenizer

    study = _load(folder)
    _say(f"tokenizer: {write_tokenizer(study, study.runs / 'tokenizer', track):,} pieces")


@app.command(rich_help_panel=STAGES)
def examples(folder: Folder = Path(".")):
    """Token ids, the fixed evaluation sets, and references that need no encoder. Example: study examples"""
    from study.console import track
    from study.data.heldout import write_examples
    from study.evaluation.baselines import write_baselines

    study = _load(folder)
    found = write_examples(study, study.runs / "examples", track)
    write_baselines(study, study.runs / "examples")
    _say(f"examples: {found['train']['tokens']:,} training tokens, {found['tokens']['test']['mask_only']:,} masked "
         f"test tokens")


@app.command(rich_help_panel=STAGES)
def search(folder: Folder = Path(".")):
    """Optuna search on validation NLL, before any cell is trained. Example: study search experiments/tiny"""
    from study.console import track
    from study.training.search import search as run

    for arm, values in run(_load(folder), track).items():
        _say(f"search: {arm}: " + (", ".join(f"{k} {v:.3g}" for k, v in values.items()) or "as in params.yaml"))


@app.command(rich_help_panel=STAGES)
def pretrain(arm: Arm, seed: Seed, folder: Folder = Path(".")):
    """Train one cell, or go on with it (several processes: torchrun). Example: study pretrain --arm dynamic --seed 0"""
    from study.analysis.claims import register
    from study.console import TrainingBar
    from study.tracking import LiveRun
    from study.training.parallel import join
    from study.training.pretrain import cell_settings
    from study.training.pretrain import pretrain as run

    study, processes = _load(folder), join()
    study.named(f"{arm}-{seed}")
    if not processes.first:
        run(study, arm, seed, processes=processes)
        return
    register(study)
    with LiveRun(study) as live, TrainingBar(f"{arm}-{seed}", cell_settings(study, arm).training.steps) as bar:
        def on_record(record: dict, speed: float) -> None:
            bar.update(record, speed)
            live.log(record, speed)

        done = run(study, arm, seed, live.start, on_record, processes)
        live.finish(done)
    speed = f", {done['tokens_per_second']:,.0f} tokens/s" if done["tokens_per_second"] else ""
    _say(f"pretrain {arm}-{seed}: {done['status']} after {done['steps']:,} steps{speed}")


@app.command(rich_help_panel=STAGES)
def evaluate(arm: Arm, seed: Seed, folder: Folder = Path(".")):
    """Perplexity on the fixed masks. Example: study evaluate --arm dynamic --seed 0"""
    from study.evaluation.predictions import evaluate as run

    study = _load(folder)
    study.named(f"{arm}-{seed}")
    found = run(study, arm, seed)["mask_only"]
    _say(f"evaluate {arm}-{seed}: " + (f"perplexity {found['perplexity']:.2f}" if found else "not a masked-word model"))


@app.command(rich_help_panel=STAGES)
def probe(arm: Arm, seed: Seed, folder: Folder = Path(".")):
    """Linear probes of the frozen encoder. Example: study probe --arm dynamic --seed 0"""
    from study.evaluation.probe import probe as run

    study = _load(folder)
    study.named(f"{arm}-{seed}")
    for task, scores in run(study, arm, seed).items():
        parts = [f"{pooling} {scores[pooling]['accuracy']:.1%} (untrained {scores[pooling]['untrained_accuracy']:.1%})"
                 for pooling in study.settings.probe.poolings]
        _say(f"probe {arm}-{seed}: {task}: {', '.join(parts)}")


@app.command(rich_help_panel=STAGES)
def compare(folder: Folder = Path(".")):
    """Paired comparisons with intervals, and a verdict for each claim. Example: study compare experiments/tiny"""
    from collections import Counter

    from study.analysis.claims import load_claims
    from study.analysis.compare import compare as run
    from study.checks import run_checks

    study = _load(folder)
    known = load_claims(study)
    verdicts = run(study, known, run_checks(study, known))
    count = Counter(found.verdict for found in verdicts.values())
    _say("compare: " + ", ".join(f"{number} {name}" for name, number in count.most_common()))


@app.command(rich_help_panel=STAGES)
def report(folder: Folder = Path(".")):
    """The report, from result files alone. Example: study report experiments/tiny"""
    from study.report.page import write_report

    _say(f"report: {write_report(_load(folder))}")


@app.command(rich_help_panel=STAGES)
def run(folder: Folder = Path("."),
        jobs: Annotated[int | None, typer.Option(min=1, help="cells at a time; processors and one more")] = None,
        ray: Annotated[str | None, typer.Option(help="run cells on the Ray cluster at this address, or auto")] = None,
        gpus: Annotated[float, typer.Option(min=0, help="share of a GPU that a cell on the cluster takes")] = 0):
    """All stages, with stale cells side by side; records what `dvc repro` would. Example: study run --jobs 2"""
    from study.console import CellsTable
    from study.runner import default_jobs, run_study

    study, cluster = _load(folder), None
    if ray is not None:
        from study.cluster import Cluster

        cluster, jobs = Cluster(study, ray, gpus), jobs or len(study.cells)
    jobs = jobs or default_jobs()
    with CellsTable(jobs) as table:
        done = run_study(study, jobs, table.update, cluster)
    _say(f"run: {len(done)} cells were stale")


@app.command(rich_help_panel=STAGES)
def plan(folder: Folder = Path("."),
         measure: Annotated[bool, typer.Option(help="time a few steps of each kind of cell")] = True,
         jobs: Annotated[int, typer.Option(min=1, help="cells at a time")] = 1):
    """Cells, what is stale, and what it will cost here. Example: study plan experiments/wikitext2 --jobs 2"""
    from study.console import show_plan, track
    from study.planning import plan as run

    show_plan(run(_load(folder), measure, track), jobs)


@app.command(rich_help_panel=READ)
def claims(claim: Annotated[str | None, typer.Argument(help="id of one claim; all without")] = None,
           folder: Annotated[Path, typer.Option("--study", help="the study: a folder with params.yaml")] = Path("."),
           strict: Annotated[bool, typer.Option(help="exit with status 1 when a claim is contradicted")] = False):
    """Verdicts of a study. Example: study claims S0.15 --study experiments/wikitext2"""
    from difflib import get_close_matches

    from study.console import show_claim, show_claims
    from study.report.claims import claim_rows

    rows = claim_rows(_load(folder))
    chosen = [row for row in rows if claim in (None, row["id"])]
    if not chosen:
        known = [row["id"] for row in rows]
        near = "".join(f"; did you mean {name}?" for name in get_close_matches(claim or "", known, n=1))
        raise StudyError(f"no claim {claim}{near or f'; `study claims` lists all {len(known)}'}")
    show_claims(rows) if claim is None else show_claim(chosen[0])
    if strict and any(row["verdict"] == "contradicted" for row in chosen):
        raise typer.Exit(1)


@app.command(rich_help_panel=READ)
def readme(folder: Folder = Path(".")):
    """Puts a study's findings at the head of README.md. Example: study readme"""
    from study.report.page import update_readme

    _say(f"readme: {update_readme(_load(folder))}")


@app.command(rich_help_panel=STAGES)
def track(folder: Folder = Path(".")):
    """MLflow, rebuilt from the result files; runs that are there already stay. Example: study track"""
    from study.tracking import track as run

    _say(f"track: {run(_load(folder))} runs written")


@app.command(rich_help_panel=READ)
def ui(folder: Folder = Path("."), port: Annotated[int, typer.Option(help="port on loopback")] = 5000):
    """MLflow's pages on http://127.0.0.1:PORT. Example: study ui --port 5001"""
    from study.tracking import ui as run

    run(_load(folder), port)


@app.command(rich_help_panel=READ)
def where(folder: Folder = Path(".")):
    """Where the report of a study is. Example: study where experiments/tiny"""
    page = _load(folder).reports.resolve() / "index.html"
    if not page.exists():
        raise StudyError(f"{page}: no report yet; run `dvc repro` in the study's folder")
    _say(f"report: {page}\n        {page.with_name('README.md')}")


@app.command(rich_help_panel=READ)
def create(name: Annotated[str, typer.Argument(help="name of the new study")],
           source: Annotated[Path, typer.Option("--from", help="study whose settings it starts from")] = Path(".")):
    """A new study folder under experiments/. Example: study create mine --from experiments/wikitext2"""
    from study.config import create_study

    _say(f"created {create_study(_load(source), name)}; edit its params.yaml, then run `dvc repro` in it")


In = Annotated[Path, typer.Option("--study", help="the study: a folder with params.yaml", show_default="this folder")]


@app.command(rich_help_panel=SEE)
def mask(text: Annotated[str, typer.Argument(help="any text")], arm: Arm, folder: In = Path("."),
         epochs: Annotated[int, typer.Option(min=1, help="passes over the text")] = 1,
         seed: Annotated[int, typer.Option(help="seed of the masks")] = 0):
    """A text under an arm's masks. Example: study mask "the cat sat on the mat" --arm static --epochs 3"""
    from study.config import resolve
    from study.console import show_masks
    from study.data.batches import Lexicon
    from study.data.preview import mask_text
    from study.data.tokenizer import load

    study = _load(folder)
    cell, backend = resolve(study, arm), load(study.runs / "tokenizer")
    show_masks(*mask_text(text, cell, backend, Lexicon.of(backend), seed, epochs))


@app.command(rich_help_panel=SEE)
def predict(text: Annotated[str, typer.Argument(help="a text with [MASK] where words are missing")],
            cells: Annotated[list[str], typer.Option(help="cells, as dynamic-0 static-0")],
            more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None, folder: In = Path("."),
            top: Annotated[int, typer.Option(min=1, help="guesses a place")] = 5):
    """What cells put in place of [MASK].

    Example: study predict "The capital of [MASK] is Paris." --cells dynamic-0 pre-ln-0
    """
    from study.console import show_guesses
    from study.evaluation.predictions import predict as run

    study = _load(folder)
    known = {f"{arm}-{seed}" for arm, seed in study.cells}
    words = [word for word in (text, *(more or [])) if word not in known] or [text]     # --cells A B: B stands alone
    cells = [*cells, *(word for word in (text, *(more or [])) if word in known), *words[1:]]
    show_guesses(run(study, words[0], [study.named(cell) for cell in cells], top))


@app.command(rich_help_panel=SEE)
def encode(texts: Annotated[list[str], typer.Argument(help="one text, or a pair")], cell: Cell, folder: In = Path("."),
           out: Annotated[Path | None, typer.Option(help="write the states (tokens, hidden) to this .npy")] = None):
    """Hidden states of a text or a pair. Example: study encode "a first text" "a second" --cell dynamic-0"""
    import numpy as np

    from study.console import show_states
    from study.evaluation.embedding import encode as run

    if len(texts) > 2:
        raise StudyError(f"{len(texts)} texts: one, or a pair; put a text with spaces in quotes")
    study = _load(folder)
    tokens, states = run(study, *study.named(cell), texts[0], texts[1] if len(texts) > 1 else None)
    show_states(tokens, states)
    if out is not None:
        np.save(out.with_suffix(".npy"), states)
        _say(f"encode: {states.shape[0]} x {states.shape[1]} float32 in {out.with_suffix('.npy')}")


@app.command(rich_help_panel=SEE)
def export(cell: Annotated[str, typer.Argument(help="cell, as dynamic-0")],
           to: Annotated[Path, typer.Option(help="new folder")], folder: In = Path(".")):
    """A cell as `transformers` loads it. Example: study export dynamic-0 --to exported"""
    from study.evaluation.embedding import load_cell
    from study.model.huggingface import export as run

    study = _load(folder)
    kind = run(*reversed(load_cell(study, *study.named(cell))), study.runs / "tokenizer", to)
    _say(f"export: {kind} in {to}; transformers.AutoModel.from_pretrained({str(to)!r}) loads it")


def main() -> None:
    """Runs the command line; a StudyError becomes one line and exit status 2."""
    try:
        app()
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
