"""Commands that show how an arm masks a text and what trained cells predict."""
from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import echo

from study import StudyError
from study.cli.options import Arm, Cell, study_command

if TYPE_CHECKING:
    from study.config.study import Study

commands = typer.Typer()
command = study_command(commands, "Trying arms and cells")
ROW_SETTINGS = ("inputs.", "masking.", "objective.target_fraction", "training.data_fraction")    # decide the rows


def _note_unknown_words(study: Study, *texts: str) -> None:
    """Prints a note if the study's vocabulary lacks words of the texts (the built-in language has its own words)."""
    from study.data.tokenizer import load

    backend = load(study.runs / "tokenizer")
    unknown = sum(backend.encode(text, add_special_tokens=False).tokens.count("[UNK]") for text in texts)
    if unknown:
        known = ", ".join(_first_words(backend.get_vocab(), 3))
        echo(f"note: {unknown} of the words are not in the vocabulary of study {study.settings.name}"
             + (f"; it knows words such as {known}" if known else ""))


def _first_words(vocabulary: dict[str, int], count: int) -> list[str]:
    """The first entries of a vocabulary that are words: no special tokens, single characters or continuations."""
    words = (entry for entry in sorted(vocabulary, key=vocabulary.__getitem__)
             if len(entry) > 1 and not entry.startswith(("##", "[")))
    return list(islice(words, count))


@command
def mask(study: Study, text: Annotated[str, typer.Argument(metavar="TEXT", help="Any text.")], arm: Arm,
         epochs: Annotated[int, typer.Option(min=1, help="Passes over the text.")] = 1,
         seed: Annotated[int, typer.Option(min=0, help="Seed of the masks.")] = 0):
    """Show how an arm masks a text.

    Writes nothing.

    Example: study mask "magoku datuke petepo" --arm static --epochs 3 --study experiments/tiny
    """
    from study.cli.console import show_masks
    from study.config.arms import branch_of, resolve
    from study.config.made_with import tuned_values
    from study.data.preview import mask_text
    from study.data.tokenizer import TokenizerInfo, load
    from study.objectives import objective_of

    config = resolve(study, arm, tuned_values(study).get(arm))
    objective, backend = objective_of(config), load(study.runs / "tokenizer")
    _note_unknown_words(study, text)
    if branch := branch_of(study.arms, arm, study.arms_path):
        echo(f"note: these are the masks after step {branch.step}; up to it, {arm} trains as {branch.arm} does")
    passes, shares = mask_text(text, objective, backend, TokenizerInfo.of(backend), seed, epochs)
    if shares["predicted"] == 0:
        raise StudyError("no word of the text can be masked; use words that the study's vocabulary has")
    show_masks(passes, shares)


@command
def predict(study: Study,
            text: Annotated[list[str], typer.Argument(
                metavar="TEXT", help="A text with [MASK] in place of some words.")],
            cells: Annotated[list[str], typer.Option(metavar="CELL...", help="Cells, such as dynamic-0 static-0.")],
            top: Annotated[int, typer.Option(min=1, help="Number of predictions per [MASK].")] = 5,
            masked: Annotated[bool, typer.Option(
                "--masked", help="A table per cell with a row per [MASK]. A text without [MASK] is masked as in the "
                "training of the first cell, and the true words stand beside the predictions.")] = False,
            seed: Annotated[int, typer.Option(min=0, help="Seed of the masks of --masked.")] = 0):
    """Show what cells predict for each [MASK] in a text.

    Writes nothing.

    Example: study predict "magoku [MASK] petepo" --cells dynamic-0 static-0 --study experiments/tiny
    """
    from study.analysis.current import check_tokenizer
    from study.cli.console import show_masked, show_predictions
    from study.evaluation.predictions import predict as run_predict

    # An option takes one value, so `--cells A B` leaves B among the arguments.
    names = {f"{arm}-{seed}" for arm, seed in study.cells}
    sentence, *unknown = [word for word in text if word not in names] or text
    cells = [*cells, *(word for word in text if word in names), *unknown]
    parsed = [study.parse_cell_name(cell) for cell in cells]
    for cell in parsed:
        check_tokenizer(study, *cell)
    _note_unknown_words(study, sentence)
    show = show_masked if masked else show_predictions
    show(run_predict(study, sentence, parsed, top, masked, seed))


@command
def minimal_pairs(study: Study, cell: Annotated[str, typer.Argument(metavar="CELL", help="Cell, such as dynamic-0.")],
                  task: Annotated[Path, typer.Option(
                      metavar="FILE", help="Parquet, CSV, TSV or JSON file with sentence_good and sentence_bad.")],
                  phenomenon: Annotated[str | None, typer.Option(
                      metavar="COLUMN", show_default="linguistics_term, if the file has it",
                      help="Column that names what a pair tests.")] = None,
                  paradigm: Annotated[str | None, typer.Option(
                      metavar="COLUMN", show_default="UID, if the file has it",
                      help="Column that names the template of a pair.")] = None,
                  pairs: Annotated[int | None, typer.Option(
                      min=1, show_default="all", help="Pairs of each template.")] = None):
    """Show in how many minimal pairs a cell finds the acceptable sentence the likelier one.

    Sentences are scored by pseudo-log-likelihood; word frequencies and bigrams of the training text stand beside it.

    Writes nothing.

    Example: study minimal-pairs dynamic-60 --task data/blimp/test.parquet --pairs 50 --study experiments/wikitext2
    """
    from study.analysis.current import check_tokenizer
    from study.analysis.further_tables import one_cell_rows
    from study.cli.console import show_minimal_pairs
    from study.data.pair_files import read_file
    from study.evaluation.minimal_pairs import judge

    arm, seed = study.parse_cell_name(cell)
    check_tokenizer(study, arm, seed)
    frame = read_file(task, phenomenon, paradigm, pairs)
    show_minimal_pairs(one_cell_rows(frame, judge(study, arm, seed, frame)))


@command
def encode(study: Study, texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="One text, or two.")],
           cell: Cell,
           out: Annotated[Path | None, typer.Option(help="Write the hidden states to this .npy file.")] = None):
    """Show the hidden states of a text or a pair of texts.

    Writes: with --out, an array of shape (tokens, hidden size), float32.

    Example: study encode "magoku datuke" "petepo fogete" --cell dynamic-0 --study experiments/tiny
    """
    import numpy as np

    from study.analysis.current import check_tokenizer
    from study.cli.console import show_states
    from study.evaluation.embedding import encode as encode_texts

    if len(texts) > 2:
        raise StudyError(f"{len(texts)} texts; pass one text or two, each in quotes")
    arm, seed = study.parse_cell_name(cell)
    check_tokenizer(study, arm, seed)
    _note_unknown_words(study, *texts)
    tokens, states = encode_texts(study, arm, seed, texts[0], texts[1] if len(texts) > 1 else None)
    show_states(tokens, states)
    if out is not None:
        out = out if out.suffix == ".npy" else out.with_name(f"{out.name}.npy")
        if not out.parent.is_dir():
            raise StudyError(f"{out.parent}: no such folder; create it or choose another --out")
        np.save(out, states)
        echo(f"encode: wrote {states.shape[0]} x {states.shape[1]} float32 to {out}")


@command
def export(study: Study, cell: Annotated[str, typer.Argument(metavar="CELL", help="Cell, such as dynamic-0.")],
           to: Annotated[Path, typer.Option(metavar="FOLDER", help="New folder for the model.")]):
    """Export a cell as a Hugging Face `transformers` model, which `sentence-transformers` loads too.

    Writes: config.json, weights, tokenizer, the modules of sentence-transformers and a model card to the new folder.

    Example: study export dynamic-0 --to exported --study experiments/tiny
    """
    from study.analysis.current import check_tokenizer
    from study.analysis.model_card import model_card
    from study.cli.console import written_files
    from study.evaluation.embedding import load_cell
    from study.files import atomic_folder, give_usual_permissions
    from study.model.huggingface import export as export_model

    arm, seed = study.parse_cell_name(cell)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise StudyError(f"{to}: is not an empty folder; choose a new one")
    check_tokenizer(study, arm, seed)
    with atomic_folder(to.resolve()) as folder:
        kind = export_model(*reversed(load_cell(study, arm, seed)), study.runs / "tokenizer", folder)
        (folder / "README.md").write_text(model_card(study, arm, seed, kind), encoding="utf-8")
        give_usual_permissions(folder)
    echo(f"export: wrote {kind} to {to}; load it with transformers.{kind}.from_pretrained({str(to)!r})")
    for line in written_files(to):
        echo(line)


@command
def rows(study: Study, cell: Annotated[str, typer.Argument(metavar="CELL", help="Cell, such as static-0.")],
         to: Annotated[Path, typer.Option(metavar="FILE", help="New parquet file.")]):
    """Write the training rows of a cell with static masks, with their pairs and masks, as a parquet data set.

    Writes: the file, which `datasets.Dataset.from_parquet` reads. study/data/prepared.py describes its columns.

    Example: study rows static-0 --to rows.parquet --study experiments/tiny
    """
    from study.training.pretrain import write_training_rows

    arm, seed = study.parse_cell_name(cell)
    if to.exists():
        raise StudyError(f"{to}: already exists; choose a new file, or delete this one")
    _check_rows_are_not_tuned(study, arm)
    count = write_training_rows(study, arm, seed, to)
    echo(f"rows: wrote {count:,} rows to {to}; load them with datasets.Dataset.from_parquet({str(to)!r})")


def _check_rows_are_not_tuned(study: Study, arm: str) -> None:
    """Raises StudyError if the search chooses a setting that decides the rows of an arm, which are written with the
    value in params.yaml."""
    from study.config.arms import resolve

    search = study.settings.search
    for key, space in search.space.items() if search.trials and search.arms else ():
        section, name = key.split(".")
        low, high = (getattr(getattr(resolve(study, arm, {key: value}), section), name)
                     for value in (space.low, space.high))
        if key.startswith(ROW_SETTINGS) and low != high:        # else the arm has a value of its own
            raise StudyError(f"arm {arm}: the search chooses {key}, which decides its rows; in {study.params_path}, "
                             f"set {key} to the value in {study.runs / 'search' / 'best.yaml'} and remove it from "
                             f"search.space")
