"""Commands that show results, and what an arm does: the rest of the command line."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study import StudyError
from study.cli.app import Arm, Folder, app, load_folder, say

if TYPE_CHECKING:
    from study.config.load import Study

Cell = Annotated[str, typer.Option(help="cell: arm and seed, as dynamic-0")]
READ, SEE = "Looking at results", "Seeing what an arm does"


@app.command(rich_help_panel=READ)
def claims(claim: Annotated[str | None, typer.Argument(help="id of one claim; all without")] = None,
           folder: Annotated[Path, typer.Option("--study", help="the study: a folder with params.yaml")] = Path("."),
           strict: Annotated[bool, typer.Option(help="exit with status 1 when a claim is contradicted")] = False):
    """Verdicts of a study. Example: study claims S0.15 --study experiments/wikitext2"""
    from difflib import get_close_matches

    from study.cli.console import show_claim, show_claims
    from study.report.claims import claim_rows

    rows = claim_rows(load_folder(folder))
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

    say(f"readme: {update_readme(load_folder(folder)).resolve()}")


@app.command(rich_help_panel=READ)
def ui(folder: Folder = Path("."), port: Annotated[int, typer.Option(help="port on loopback")] = 5000):
    """MLflow's pages on http://127.0.0.1:PORT. Example: study ui --port 5001"""
    from study.tracking.runs import ui as run

    run(load_folder(folder), port)


@app.command(rich_help_panel=READ)
def register(folder: Folder = Path(".")):
    """The best encoder into MLflow's model registry, with a card. Example: study register experiments/wikitext2"""
    from study.tracking.registry import register_best

    say(f"register: {register_best(load_folder(folder))}")


@app.command(rich_help_panel=READ)
def where(folder: Folder = Path(".")):
    """Where the report of a study is. Example: study where experiments/tiny"""
    page = load_folder(folder).reports.resolve() / "index.html"
    if not page.exists():
        raise StudyError(f"{page}: no report yet; run `dvc repro` in the study's folder")
    say(f"report: {page}\n        {page.with_name('README.md')}")


@app.command(rich_help_panel=READ)
def create(name: Annotated[str, typer.Argument(help="name of the new study")],
           source: Annotated[Path, typer.Option("--from", help="study whose settings it starts from")] = Path(".")):
    """A new study folder under experiments/. Example: study create mine --from experiments/wikitext2"""
    from study.config.load import create_study

    say(f"created {create_study(load_folder(source), name)}; edit its params.yaml, then run `dvc repro` in it")


In = Annotated[Path, typer.Option("--study", help="the study: a folder with params.yaml", show_default="this folder")]


def note_unknown(study: Study, *texts: str) -> None:
    """Says so where words of a text are not in the study's vocabulary: the built-in language has its own."""
    from study.data.tokenizer import SPECIALS, load

    backend = load(study.runs / "tokenizer")
    if count := sum(backend.encode(text, add_special_tokens=False).tokens.count("[UNK]") for text in texts):
        known = ", ".join(backend.id_to_token(len(SPECIALS) + number) for number in (1, 2, 3))
        say(f"note: {count} of the words are unknown to study {study.settings.name}; it knows such words as {known}")


@app.command(rich_help_panel=SEE)
def mask(text: Annotated[str, typer.Argument(help="any text")], arm: Arm, folder: In = Path("."),
         epochs: Annotated[int, typer.Option(min=1, help="passes over the text")] = 1,
         seed: Annotated[int, typer.Option(min=0, help="seed of the masks")] = 0):
    """A text under an arm's masks. Example: study mask "magoku datuke petepo" --arm static --epochs 3"""
    from study.cli.console import show_masks
    from study.config.load import resolve
    from study.data.preview import mask_text
    from study.data.tokenizer import load
    from study.data.tokenizer_info import TokenizerInfo

    study = load_folder(folder)
    cell, backend = resolve(study, arm), load(study.runs / "tokenizer")
    note_unknown(study, text)
    show_masks(*mask_text(text, cell, backend, TokenizerInfo.of(backend), seed, epochs))


@app.command(rich_help_panel=SEE)
def predict(text: Annotated[str, typer.Argument(help="a text with [MASK] where words are missing")],
            cells: Annotated[list[str], typer.Option(help="cells, as dynamic-0 static-0")],
            more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None, folder: In = Path("."),
            top: Annotated[int, typer.Option(min=1, help="guesses a place")] = 5):
    """What cells put in place of [MASK].

    Example: study predict "magoku [MASK] petepo" --cells dynamic-0 pre-ln-0
    """
    from study.cli.console import show_guesses
    from study.evaluation.evaluate import predict as run

    study = load_folder(folder)
    known = {f"{arm}-{seed}" for arm, seed in study.cells}
    words = [word for word in (text, *(more or [])) if word not in known] or [text]     # --cells A B: B stands alone
    cells = [*cells, *(word for word in (text, *(more or [])) if word in known), *words[1:]]
    note_unknown(study, words[0])
    show_guesses(run(study, words[0], [study.named(cell) for cell in cells], top))


@app.command(rich_help_panel=SEE)
def encode(texts: Annotated[list[str], typer.Argument(help="one text, or a pair")], cell: Cell, folder: In = Path("."),
           out: Annotated[Path | None, typer.Option(help="write the states (tokens, hidden) to this .npy")] = None):
    """Hidden states of a text or a pair. Example: study encode "magoku datuke" "petepo fogete" --cell dynamic-0"""
    import numpy as np

    from study.cli.console import show_states
    from study.evaluation.embedding import encode as run

    if len(texts) > 2:
        raise StudyError(f"{len(texts)} texts: one, or a pair; put a text with spaces in quotes")
    study = load_folder(folder)
    note_unknown(study, *texts)
    tokens, states = run(study, *study.named(cell), texts[0], texts[1] if len(texts) > 1 else None)
    show_states(tokens, states)
    if out is not None:
        out = out if out.suffix == ".npy" else out.with_name(f"{out.name}.npy")
        if not out.parent.is_dir():
            raise StudyError(f"{out.parent}: no such folder")
        np.save(out, states)
        say(f"encode: {states.shape[0]} x {states.shape[1]} float32 in {out}")


@app.command(rich_help_panel=SEE)
def export(cell: Annotated[str, typer.Argument(help="cell, as dynamic-0")],
           to: Annotated[Path, typer.Option(help="new folder")], folder: In = Path(".")):
    """A cell as `transformers` loads it. Example: study export dynamic-0 --to exported"""
    from study.evaluation.embedding import load_cell
    from study.model.huggingface import export as run

    study = load_folder(folder)
    kind = run(*reversed(load_cell(study, *study.named(cell))), study.runs / "tokenizer", to)
    say(f"export: {kind} in {to}; transformers.AutoModel.from_pretrained({str(to)!r}) loads it")
