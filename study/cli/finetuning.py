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
    from study.cli.console import progress
    from study.finetuning.by_hand import finetune_file, recipe_with
    from study.finetuning.export import check_export, export_classifier

    arm, seed = study.parse_cell_name(cell)
    recipe = recipe_with(study, changes)
    if export is not None:                  # before the work: a reason not to export is an error at once
        check_export(study, arm, seed, recipe, export)
    check_tokenizer(study, arm, seed)
    done = finetune_file(study, arm, seed, task, test, recipe, progress)
    echo(f"finetune {cell}: accuracy {done.accuracy:.1%} on {done.test_rows:,} test rows (commonest class "
         f"{done.majority:.1%}); learning rate {done.rate:g}, {done.train_rows:,} training rows, "
         f"{done.tokens_per_second:,.0f} tokens/s")
    if export is not None:
        kind = export_classifier(done.classifier, done.config, done.labels, study.runs / "tokenizer", export)
        echo(f"finetune {cell}: wrote {kind} to {export}; load it with "
             f"transformers.AutoModelForSequenceClassification.from_pretrained({str(export)!r})")
