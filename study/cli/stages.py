"""One command per stage of dvc.yaml that makes data or cells. result_stages.py has the others."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import echo

from study import StudyError
from study.cli.options import Arm, OptionalArm, OptionalSeed, Seed, study_command

if TYPE_CHECKING:
    from study.config.study import Study

commands = typer.Typer()
stage = study_command(commands, "Stages of the pipeline")


def check_cell(study: Study, arm: str, seed: int, stage_name: str) -> None:
    """Raises StudyError if the study has no such cell, if the code is not the version that DVC recorded, or if what the
    stage reads was made with other settings."""
    from study.config.made_with import check_inputs
    from study.orchestration.code_identity import check_code

    study.parse_cell_name(f"{arm}-{seed}")
    check_code(study, stage_name)
    check_inputs(study, stage_name)


def _show_summary(study: Study, stage_name: str, *tasks: str) -> None:
    from study.cli.console import show_summary
    from study.data.summary_tables import read_summaries

    show_summary(stage_name, read_summaries(study.runs, tasks)[stage_name])


@stage
def code(study: Study):
    """Hash the source code that each stage uses.

    Writes: .state/code/STUDY/STAGE.txt, which the stages depend on, and links to the study's results in runs/ and
    reports/ of the root.

    Example: study code experiments/tiny
    """
    from study.config.create import link_results
    from study.orchestration.code_identity import write_code_identity

    link_results(study)
    write_code_identity(study)


@stage
def corpus(study: Study):
    """Prepare the text: documents of sentences, and the rows of the probe tasks.

    Writes: runs/STUDY/corpus.

    Example: study corpus experiments/tiny
    """
    from study.cli.console import progress
    from study.files import atomic_folder

    if study.settings.corpus.kind == "synthetic":
        from study.data.corpus_synthetic import write_synthetic_corpus as write_corpus
    else:
        from study.data.corpus_text import write_text_corpus as write_corpus
    with atomic_folder(study.runs / "corpus") as folder:
        counts = write_corpus(study, folder, progress)["counts"]
    _show_summary(study, "corpus")
    echo(f"corpus: {counts['train_documents']:,} training documents, {counts['train_words']:,} words")


@stage
def tokenizer(study: Study):
    """Train a WordPiece vocabulary, or download one.

    Writes: runs/STUDY/tokenizer.

    Example: study tokenizer experiments/tiny
    """
    from study.cli.console import progress
    from study.config.made_with import check_inputs
    from study.data.wordpiece import write_tokenizer
    from study.files import atomic_folder

    check_inputs(study, "tokenizer")
    with atomic_folder(study.runs / "tokenizer") as folder:
        pieces = write_tokenizer(study, folder, progress)
    _show_summary(study, "tokenizer")
    echo(f"tokenizer: {pieces:,} pieces")


@stage
def examples(study: Study):
    """Convert the text to token ids, fix the evaluation masks and score the baselines that need no encoder.

    Writes: runs/STUDY/examples.

    Example: study examples experiments/tiny
    """
    from study.cli.console import progress
    from study.config.made_with import check_inputs
    from study.data.examples import write_examples, write_input_manifests
    from study.evaluation.baselines import write_baselines
    from study.files import atomic_folder

    check_inputs(study, "examples")
    exact = None
    if study.settings.corpus.kind == "synthetic":
        from study.data.synthetic_floor import synthetic_floor

        exact = synthetic_floor(study)
    with atomic_folder(study.runs / "examples") as folder:
        manifest = write_examples(study, folder, exact, progress)
        write_baselines(study, folder)
        write_input_manifests(study, folder)
    _show_summary(study, "examples")
    echo(f"examples: {manifest['train']['tokens']:,} training tokens, "
         f"{manifest['tokens']['test']['mask_only']:,} masked test tokens")


@stage
def search(study: Study):
    """Tune the arms listed in search.arms on validation loss, with Optuna.

    Writes: runs/STUDY/search: the settings that each arm is trained with.

    Example: study search experiments/tiny
    """
    from study.cli.console import progress
    from study.config.made_with import check_inputs
    from study.orchestration.code_identity import code_hash
    from study.training.search import search as run_search

    check_inputs(study, "search")
    for arm, values in run_search(study, progress, code_hash(study, "search")).items():
        echo(f"search: {arm}: " + (", ".join(f"{key} {value:.3g}" for key, value in values.items())
                                   or "as in params.yaml"))


@stage
def pretrain(study: Study, arm: Arm, seed: Seed):
    """Train one cell, or resume it from its last checkpoint. With torchrun, several processes train it.

    Writes: weights, settings and learning curve to runs/STUDY/ARM-SEED.

    Example: study pretrain experiments/tiny --arm dynamic --seed 0
    """
    from study.cli.console import TrainingBar
    from study.config.made_with import check_arm
    from study.orchestration.code_identity import code_hash
    from study.tracking.live import LiveRun
    from study.training.parallel import join
    from study.training.pretrain import arm_settings, cell_settings
    from study.training.pretrain import pretrain as train_cell

    check_cell(study, arm, seed, "pretrain")
    cell_settings(study, arm)               # without them, the message is that the search has not run
    check_arm(study, arm, arm_settings(study, arm), "study search")
    processes, version = join(), code_hash(study, "pretrain")
    if not processes.first:
        train_cell(study, arm, seed, processes=processes, code_hash=version)
        return
    if not any((study.cell(arm, other) / "training.json").exists() for other in study.settings.seeds):
        from study.analysis.registration import register_claims  # only the first cell of an arm needs this import

        register_claims(study)
    with LiveRun(study) as live, TrainingBar(f"{arm}-{seed}", cell_settings(study, arm).training.steps) as bar:
        def on_record(record: dict, tokens_per_second: float) -> None:
            bar.update(record, tokens_per_second)
            live.log(record, tokens_per_second)

        outcome = train_cell(study, arm, seed, live.start, on_record, processes, version)
        live.finish(outcome)
    speed = f", {outcome['tokens_per_second']:,.0f} tokens/s" if outcome["tokens_per_second"] else ""
    echo(f"pretrain {arm}-{seed}: {outcome['status']} after {outcome['steps']:,} steps{speed}")


@stage
def evaluate(study: Study, arm: Arm, seed: Seed):
    """Measure a cell's perplexity on the fixed masks of the test set, and probe its frozen encoder.

    Writes: evaluation.json, predictions.json and probe.json to runs/STUDY/ARM-SEED.

    Example: study evaluate experiments/tiny --arm dynamic --seed 0
    """
    from study.analysis.current import check_trained_cell
    from study.data.minimal_pairs import read_pairs
    from study.evaluation.evaluate import evaluate as evaluate_cell
    from study.evaluation.probe import baselines, probe, read_task

    check_cell(study, arm, seed, "evaluate")
    check_trained_cell(study, arm, seed)
    for task in study.settings.probe.tasks:         # before anything is written: a missing input is an error at once
        baselines(study, task)
        for split in ("train", "test"):
            read_task(study, task, split)
    for pairs in study.settings.evaluation.minimal_pairs:
        read_pairs(study, pairs)
    scores = evaluate_cell(study, arm, seed)["mask_only"]
    echo(f"evaluate {arm}-{seed}: "
         + (f"perplexity {scores['perplexity']:.2f}" if scores else "not a masked language model"))
    for task, accuracies in probe(study, arm, seed).items():
        parts = [f"{pooling} {accuracies[pooling]['accuracy']:.1%} "
                 f"(untrained {accuracies[pooling]['untrained_accuracy']:.1%})"
                 for pooling in study.settings.probe.poolings]
        echo(f"probe {arm}-{seed}: {task}, last layer: {', '.join(parts)}")


@stage
def tasks(study: Study, task: Annotated[str, typer.Option(help="Task, as named in finetune.tasks.")]):
    """Prepare the rows of a fine-tuning task.

    Writes: runs/STUDY/tasks/TASK.

    Example: study tasks experiments/tiny --task topic
    """
    from study.cli.console import show_warnings
    from study.data.task_rows import task_folder, task_named, unknown_warnings, write_task_rows
    from study.files import atomic_folder

    topic_rows = None
    if study.settings.corpus.kind == "synthetic":
        from study.data.corpus_synthetic import topic_rows

    with atomic_folder(task_folder(study, task_named(study, task))) as folder:
        counts = write_task_rows(study, task, folder, topic_rows)
    _show_summary(study, "tasks", task)
    if (study.runs / "tokenizer").exists():             # the stage does not need it
        show_warnings(unknown_warnings(study, task_named(study, task)))
    echo(f"tasks: {task}, " + ", ".join(f"{count:,} {split} rows" for split, count in counts.items()))


@stage
def finetune(study: Study,
             cell: Annotated[str | None, typer.Argument(metavar="CELL", help="Cell, such as dynamic-0.")] = None,
             arm: OptionalArm = None, seed: OptionalSeed = None,
             task: Annotated[Path | None, typer.Option(
                 metavar="FILE", help="Labelled texts: Parquet, CSV, TSV or JSON with text, label, perhaps text_pair."
                 )] = None,
             test: Annotated[Path | None, typer.Option(
                 metavar="FILE", help="Test rows in the same form.", show_default="a fifth of the task's rows")] = None,
             change: Annotated[list[str] | None, typer.Option(
                 "--set", metavar="KEY=VALUE",
                 help="Setting of the recipe, such as epochs=5; may be repeated.")] = None,
             export: Annotated[Path | None, typer.Option(
                 metavar="FOLDER", help="Write the classifier as a `transformers` model.")] = None):
    """Fine-tune a cell on the tasks of the study (--arm and --seed), or by hand on a file (CELL and --task).

    Writes: finetune.json, finetune_time.json, finetune.npz and finetuned_with.yaml to runs/STUDY/ARM-SEED. By hand:
    only FOLDER.

    Example: study finetune dynamic-0 --task reviews.csv --set epochs=5 --export classifier --study experiments/tiny
    """
    if task is not None:
        from study.cli.finetuning import finetune_by_hand

        if cell is None or arm is not None or seed is not None:
            raise StudyError(f"--task {task} needs CELL, such as dynamic-0, and neither --arm nor --seed")
        finetune_by_hand(study, cell, task, test, change or [], export)
        return
    from study.analysis.current import check_trained_cell
    from study.cli.console import show_warnings
    from study.data.task_rows import unknown_warnings
    from study.finetuning.finetune import finetune as finetune_cell

    if arm is None or seed is None or cell or test or change or export:
        raise StudyError("give --arm and --seed for the tasks of the study, or CELL and --task FILE for your own")
    check_cell(study, arm, seed, "finetune")
    if arm not in study.settings.finetune.arms:
        raise StudyError(f"{study.params_path}: {arm} is not among finetune.arms; add it")
    check_trained_cell(study, arm, seed)
    for entry in study.settings.finetune.tasks:
        show_warnings(unknown_warnings(study, entry))
    for name, scores in finetune_cell(study, arm, seed).items():
        for size in map(str, study.settings.finetune.recipe.train_sizes):
            untrained = scores.get("untrained", {}).get(size)
            beside = f" (untrained {untrained['accuracy']:.1%})" if untrained else ""
            echo(f"finetune {arm}-{seed}: {name}, {size} rows: {scores['trained'][size]['accuracy']:.1%}{beside}")
