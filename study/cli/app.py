"""The command line: parse, load settings, call one function."""
from __future__ import annotations

import errno
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
# A full disk, a folder that may not be written, a file in a folder's place: the user's to mend, not ours.
REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR,
           errno.EEXIST)
Folder = Annotated[Path, typer.Argument(help="the study: a folder with params.yaml", show_default="this folder")]
Arm = Annotated[str, typer.Option(help="arm, as in experiments/arms.yaml")]
Seed = Annotated[int, typer.Option(help="seed of the cell")]
STAGES = "Stages of the pipeline"


def load_folder(folder: Path):
    from study.config.load import load_study

    return load_study(folder)


def load_cell_of(folder: Path, arm: str, seed: int, stage: str):
    """The study, when it has the cell and the code of the stage is what DVC takes it for."""
    from study.orchestration.code_identity import check_modules, code_folder

    study = load_folder(folder)
    study.named(f"{arm}-{seed}")
    check_modules(code_folder(study), stage)
    return study


def say(text: str) -> None:
    print(text, flush=True)


@app.command(rich_help_panel=STAGES)
def code(folder: Folder = Path(".")):
    """Hashes of the modules that each stage uses. Example: study code experiments/tiny"""
    from study.orchestration.code_identity import code_folder, write_modules

    write_modules(code_folder(load_folder(folder)))


@app.command(rich_help_panel=STAGES)
def corpus(folder: Folder = Path(".")):
    """Text as documents of sentences, and the rows of the probe tasks. Example: study corpus experiments/tiny"""
    from study.cli.console import track
    from study.data.corpus import write_corpus
    from study.files import whole_folder

    study = load_folder(folder)
    with whole_folder(study.runs / "corpus") as place:
        counts = write_corpus(study, place, track)["counts"]
    say(f"corpus: {counts['train_documents']:,} training documents, {counts['train_words']:,} words")


@app.command(rich_help_panel=STAGES)
def tokenizer(folder: Folder = Path(".")):
    """A WordPiece vocabulary. Example: study tokenizer experiments/tiny"""
    from study.cli.console import track
    from study.data.tokenizer import write_tokenizer
    from study.files import whole_folder

    study = load_folder(folder)
    with whole_folder(study.runs / "tokenizer") as place:
        say(f"tokenizer: {write_tokenizer(study, place, track):,} pieces")


@app.command(rich_help_panel=STAGES)
def examples(folder: Folder = Path(".")):
    """Token ids, the fixed evaluation sets, and references that need no encoder. Example: study examples"""
    from study.cli.console import track
    from study.data.evaluation_sets import write_examples
    from study.evaluation.baselines import write_baselines
    from study.files import whole_folder

    study = load_folder(folder)
    with whole_folder(study.runs / "examples") as place:
        found = write_examples(study, place, track)
        write_baselines(study, place)
    say(f"examples: {found['train']['tokens']:,} training tokens, {found['tokens']['test']['mask_only']:,} masked "
         f"test tokens")


@app.command(rich_help_panel=STAGES)
def search(folder: Folder = Path(".")):
    """Optuna search on validation NLL, before any cell is trained. Example: study search experiments/tiny"""
    from study.cli.console import track
    from study.training.search import search as run

    for arm, values in run(load_folder(folder), track).items():
        say(f"search: {arm}: " + (", ".join(f"{k} {v:.3g}" for k, v in values.items()) or "as in params.yaml"))


@app.command(rich_help_panel=STAGES)
def trials(arm: Arm, folder: Folder = Path(".")):
    """The search of one tuned arm alone; `study search` then finds it made. Example: study trials --arm dynamic

    Arms may be searched side by side, on several machines where STUDY_STORAGE is the address of a database
    (postgresql://...) that all reach.
    """
    from study.cli.console import track
    from study.training.pretrain import load_data
    from study.training.search import finished, search_arm

    study = load_folder(folder)
    found = search_arm(study, arm, load_data(study), track)
    done = finished(found)
    best = f"best validation NLL {found.best_value:.3f}" if done else "none was asked for"
    say(f"trials {arm}: {len(done)}, {best}")


@app.command(rich_help_panel=STAGES)
def pretrain(arm: Arm, seed: Seed, folder: Folder = Path(".")):
    """Train one cell, or go on with it (several processes: torchrun). Example: study pretrain --arm dynamic --seed 0"""
    from study.cli.console import TrainingBar
    from study.tracking.runs import LiveRun
    from study.training.parallel import join
    from study.training.pretrain import cell_settings
    from study.training.pretrain import pretrain as run

    study, processes = load_cell_of(folder, arm, seed, "pretrain"), join()
    if not processes.first:
        run(study, arm, seed, processes=processes)
        return
    if not (study.runs / "claims.json").exists():
        from study.analysis.claims import register  # a second of imports that the first cell alone needs

        register(study)
    with LiveRun(study) as live, TrainingBar(f"{arm}-{seed}", cell_settings(study, arm).training.steps) as bar:
        def on_record(record: dict, speed: float) -> None:
            bar.update(record, speed)
            live.log(record, speed)

        done = run(study, arm, seed, live.start, on_record, processes)
        live.finish(done)
    speed = f", {done['tokens_per_second']:,.0f} tokens/s" if done["tokens_per_second"] else ""
    say(f"pretrain {arm}-{seed}: {done['status']} after {done['steps']:,} steps{speed}")


@app.command(rich_help_panel=STAGES)
def evaluate(arm: Arm, seed: Seed, folder: Folder = Path(".")):
    """Perplexity on the fixed masks. Example: study evaluate --arm dynamic --seed 0"""
    from study.evaluation.evaluate import evaluate as run

    found = run(load_cell_of(folder, arm, seed, "evaluate"), arm, seed)["mask_only"]
    say(f"evaluate {arm}-{seed}: " + (f"perplexity {found['perplexity']:.2f}" if found else "not a masked-word model"))


@app.command(rich_help_panel=STAGES)
def probe(arm: Arm, seed: Seed, folder: Folder = Path(".")):
    """Linear probes of the frozen encoder. Example: study probe --arm dynamic --seed 0"""
    from study.evaluation.probe import probe as run

    study = load_cell_of(folder, arm, seed, "probe")
    for task, scores in run(study, arm, seed).items():
        parts = [f"{pooling} {scores[pooling]['accuracy']:.1%} (untrained {scores[pooling]['untrained_accuracy']:.1%})"
                 for pooling in study.settings.probe.poolings]
        say(f"probe {arm}-{seed}: {task}: {', '.join(parts)}")


@app.command(rich_help_panel=STAGES)
def compare(folder: Folder = Path(".")):
    """Paired comparisons with intervals, and a verdict for each claim. Example: study compare experiments/tiny"""
    from collections import Counter

    from study.analysis.claims import load_claims
    from study.analysis.compare import compare as run
    from study.evaluation.exact_claims import run_checks

    study = load_folder(folder)
    known = load_claims(study)
    verdicts = run(study, known, run_checks(study, known))
    count = Counter(found.verdict for found in verdicts.values())
    say("compare: " + ", ".join(f"{number} {name}" for name, number in count.most_common()))


@app.command(rich_help_panel=STAGES)
def report(folder: Folder = Path(".")):
    """The report, from result files alone. Example: study report experiments/tiny"""
    from study.report.page import write_report

    say(f"report: {write_report(load_folder(folder))}")


@app.command(rich_help_panel=STAGES)
def run(folder: Folder = Path("."),
        jobs: Annotated[int | None, typer.Option(min=1, help="cells at a time; processors and one more")] = None,
        ray: Annotated[str | None, typer.Option(help="run cells on the Ray cluster at this address, or auto")] = None,
        gpus: Annotated[float, typer.Option(min=0, help="share of a GPU that a cell on the cluster takes")] = 0):
    """All stages, with stale cells side by side; records what `dvc repro` would. Example: study run --jobs 2"""
    from study.cli.console import CellsTable
    from study.orchestration.runner import default_jobs, run_study

    study, cluster = load_folder(folder), None
    if ray is not None:
        from study.orchestration.ray_cluster import Cluster

        cluster, jobs = Cluster(study, ray, gpus), jobs or len(study.cells)
    jobs = jobs or default_jobs()
    with CellsTable(jobs) as table:
        done = run_study(study, jobs, table.update, cluster)
    say(f"run: {len(done)} cells were stale")


@app.command(rich_help_panel=STAGES)
def plan(folder: Folder = Path("."),
         measure: Annotated[bool, typer.Option(help="time a few steps of each kind of cell")] = True,
         jobs: Annotated[int | None, typer.Option(min=1, help="cells at a time; as many as processors")] = None):
    """Cells, what is stale, and what it will cost here. Example: study plan experiments/wikitext2 --jobs 2"""
    from study.cli.console import show_plan, track
    from study.orchestration.plan import plan as run
    from study.orchestration.runner import processors, stages_file

    study = load_folder(folder)
    show_plan(run(study, measure, track), min(jobs or processors(), processors()), stages_file(study))


@app.command(rich_help_panel=STAGES)
def verify(folder: Folder = Path("."),
           cells: Annotated[int, typer.Option(min=1, help="how many, spread over the arms")] = 1,
           cell: Annotated[list[str] | None, typer.Option(help="this one (may be repeated), as dynamic-0")] = None):
    """Train cells anew and compare with what is published. Example: study verify experiments/wikitext2 --cells 2

    Status 1 when a cell comes out different. Needs the study's text, but no weights: their hashes are in dvc.lock.
    """
    from study.cli.console import TrainingBar, verified
    from study.evaluation.embedding import recorded_settings
    from study.orchestration.runner import make_examples
    from study.orchestration.verify import chosen, recorded_weights
    from study.orchestration.verify import verify as run

    study = load_folder(folder)
    names, different = cell or chosen(study, cells), False
    for name in names:
        study.named(name)
        recorded_weights(study, name)       # before anything is made, so that a cell without a record is said at once
    make_examples(study)
    for name in names:
        with TrainingBar(name, recorded_settings(study, *study.named(name)).training.steps) as bar:
            found = run(study, name, bar.update)
        say(f"verify {name}: {verified(found)}")
        different |= found["outcome"] == "different"
    say(f"verify: written to {study.runs.resolve()}/<cell>/verification.json; `dvc repro` shows it in the report")
    if different:
        raise typer.Exit(1)


@app.command(rich_help_panel=STAGES)
def track(folder: Folder = Path(".")):
    """MLflow, rebuilt from the result files; runs that are there already stay. Example: study track"""
    from study.tracking.runs import track as run

    say(f"track: {run(load_folder(folder))} runs written")


def main() -> None:
    """Runs the command line; a StudyError becomes one line and exit status 2."""
    if place := os.environ.get("STUDY_WARM"):
        from study.orchestration.preload import ask

        if (status := ask(place)) is not None:
            sys.exit(status)
    try:
        app()
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)


