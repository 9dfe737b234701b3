"""`study finetune CELL --task FILE`: fine-tuning by hand."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from typer import echo

if TYPE_CHECKING:
    from study.config.study import Study


def finetune_by_hand(study: Study, cell: str, task: Path, test: Path | None, changes: list[str],
                     export: Path | None) -> None:
    """Fine-tunes a cell on a file, prints its accuracy and exports it if a folder is given."""
    from study.analysis.current import check_tokenizer
    from study.analysis.model_card import ClassifierRun, classifier_card
    from study.cli.console import progress, show_warnings, written_files
    from study.data.tokenizer import load
    from study.data.unknown import row_warnings
    from study.finetuning.by_hand import UNUSED, finetune_file, read_labelled, recipe_with
    from study.finetuning.export import check_export, export_classifier

    arm, seed = study.parse_cell_name(cell)
    recipe = recipe_with(study, changes)
    if export is not None:                  # before the work: a reason not to export is an error at once
        check_export(study, arm, seed, recipe, 2, export)
    check_tokenizer(study, arm, seed)
    for path in filter(None, (task, test)):
        rows = read_labelled(path)
        if export is not None and path == task:
            check_export(study, arm, seed, recipe, rows.label.nunique(), export)
        show_warnings(row_warnings(load(study.runs / "tokenizer"), f"rows of {path}", rows))
    done = finetune_file(study, arm, seed, task, test, recipe, progress)
    echo(f"finetune {cell}: accuracy {done.accuracy:.1%} on {done.test_rows:,} test rows (commonest class "
         f"{done.majority:.1%}); learning rate {done.rate:g}, {done.train_rows:,} training rows, "
         f"{done.tokens_per_second:,.0f} tokens/s")
    if export is not None:
        run = ClassifierRun(done.files, dict(zip(done.labels, done.counts, strict=True)), done.accuracy, done.majority,
                            done.rate, recipe.model_dump(exclude=set(UNUSED)))
        kind = export_classifier(done.classifier, done.config, done.labels, study.runs / "tokenizer", export,
                                 lambda kind: classifier_card(study, arm, seed, kind, run))
        echo(f"finetune {cell}: wrote {kind} to {export}; load it with "
             f"transformers.AutoModelForSequenceClassification.from_pretrained({str(export)!r})")
        for line in written_files(export):
            echo(line)
