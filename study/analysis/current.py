"""Whether result files belong to the settings that the study has now. Files of other settings are refused, not used."""
from __future__ import annotations

from study import StudyError
from study.analysis.claims import load_claims
from study.analysis.results import CellResults, StudyResults, read_json
from study.config.made_with import (
    EVALUATED_WITH,
    FINETUNED_WITH,
    MADE_WITH,
    arm_difference,
    check_arm,
    check_made_with,
    check_record_exists,
    made_with_difference,
)
from study.config.study import Study
from study.files import file_sha256


def check_comparable(results: StudyResults) -> None:
    """Raises StudyError if a cell was trained or scored with other settings than the study has now, or if two cells
    were scored on different evaluation sets."""
    first = results.cells[0]
    for cell in results.cells:
        if cell.evaluation["hash"] != first.evaluation["hash"]:
            raise StudyError(f"{results.study.runs}: {first.name} and {cell.name} were scored on different evaluation "
                             f"sets; run `dvc repro` to score all cells on the same one")
    check_cells(results, results.cells)
    _check_all_finetuned(results)


def check_cells(results: StudyResults, cells: list[CellResults]) -> None:
    """Raises StudyError if one of the cells was trained, scored or fine-tuned with other settings than the study has
    now, or trained on other examples."""
    for cell in cells:
        difference = arm_difference(results.study, cell.arm, cell.settings, results.tuned)
        if difference is not None:
            key, old, new = difference
            raise StudyError(f"{cell.folder / 'settings.yaml'}: {cell.name} was trained with {key} {old}, but the "
                             f"study's settings now give {new}; run `dvc repro`")
        scores = cell.folder / EVALUATED_WITH
        if scores.exists():                 # earlier versions did not write it
            check_made_with(results.study, "evaluate", scores, f"study evaluate --arm {cell.arm} --seed {cell.seed}")
        _check_finetuned(results.study, cell)
    check_examples(results.study, cells)


def _check_all_finetuned(results: StudyResults) -> None:
    """Raises StudyError if some cells of an arm were fine-tuned and others were not."""
    for arm in results.study.settings.finetune.arms:
        cells = results.of_arm(arm)
        missing = [cell for cell in cells if not (cell.folder / "finetune.json").exists()]
        if 0 < len(missing) < len(cells):
            raise StudyError(f"{missing[0].folder / 'finetune.json'}: no such file, but other cells of {arm} have it; "
                             f"run `study finetune --arm {arm} --seed {missing[0].seed}` (or `dvc repro`) first")


def _check_finetuned(study: Study, cell: CellResults) -> None:
    """Raises StudyError if a cell was fine-tuned with other settings than the study has now. Results of tasks are not
    used in a study without tasks."""
    finetune, scores, record = study.settings.finetune, cell.folder / "finetune.json", cell.folder / FINETUNED_WITH
    if not finetune.tasks or not scores.exists():
        return
    if cell.arm in finetune.arms:
        command = f"study finetune --arm {cell.arm} --seed {cell.seed}"
        check_record_exists(record, "fine-tuned this cell", command)
        check_made_with(study, "finetune", record, command)
    elif not record.exists() or made_with_difference(study, "finetune", record) is not None:
        raise StudyError(f"{scores}: {cell.name} was fine-tuned with other settings than the study has now, and "
                         f"{cell.arm} is no longer among finetune.arms; add it in {study.params_path}, or delete this "
                         f"file")


def check_trained_cell(study: Study, arm: str, seed: int) -> None:
    """Raises StudyError if a cell was trained with other settings than the study has now, or on other examples. A cell
    that was not trained is left to the stage."""
    cell = CellResults(study.cell(arm, seed), arm, seed)
    if (cell.folder / "settings.yaml").exists():
        check_arm(study, arm, cell.folder / "settings.yaml", f"study pretrain --arm {arm} --seed {seed}")
    check_examples(study, [cell])


def check_tokenizer(study: Study, arm: str, seed: int) -> None:
    """Raises StudyError if a trained cell does not belong to the examples and the tokenizer that are there."""
    check_examples(study, [CellResults(study.cell(arm, seed), arm, seed)])


def check_examples(study: Study, cells: list[CellResults]) -> None:
    """Raises StudyError if one of the cells was trained on other examples than those that are there, or if these were
    made with another tokenizer. Examples that are not on this machine are not checked."""
    path, trained = study.runs / "examples" / "training_inputs.json", [
        cell for cell in cells if (cell.folder / "training.json").exists()]
    if not path.exists() or not trained:
        return
    made, tokenizer = read_json(path), study.runs / "tokenizer" / "tokenizer.json"
    if tokenizer.exists() and file_sha256(tokenizer) != made["tokenizer"]:
        raise StudyError(f"{path.parent}: made with another tokenizer than {tokenizer}; run `study examples` (or `dvc "
                         f"repro`) first")
    for cell in trained:
        if cell.training["data"] != made["train"]:
            raise StudyError(f"{cell.folder / 'training.json'}: {cell.name} was trained on other examples than those "
                             f"in {path.parent}; run `study pretrain --arm {cell.arm} --seed {cell.seed}` (or `dvc "
                             f"repro`) first")


def check_tables(study: Study) -> None:
    """Raises StudyError if the tables of a report were made with other settings or claims than the study has now.

    Tables that do not exist, and settings that an earlier version did not record, are left to the report.
    """
    tables, claims = study.reports / "tables" / MADE_WITH, study.reports / "claims.json"
    if tables.exists():
        check_made_with(study, "compare", tables)
    if not claims.exists():
        return
    decided = read_json(claims)
    for name, claim in load_claims(study).items():
        content = claim.model_dump(mode="json")
        if {key: decided.get(name, {}).get(key) for key in content} != content:
            raise StudyError(f"{claims}: {name} was edited since in {study.root / 'experiments' / 'claims.yaml'}; run "
                             f"`study compare` (or `dvc repro`) first")
