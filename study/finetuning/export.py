"""Fine-tuned cells as models of `transformers`."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from study import StudyError
from study.config.schema import FinetuneRecipe, RunConfig
from study.config.study import Study
from study.evaluation.embedding import recorded_settings
from study.files import atomic_folder, give_usual_permissions
from study.finetuning.classifier import Classifier
from study.model.huggingface import exportable_tokenizer
from study.model.huggingface_classifier import classifier_class, to_transformers_classifier


def check_export(study: Study, arm: str, seed: int, recipe: FinetuneRecipe, classes: int, folder: Path) -> None:
    """Raises StudyError if a cell fine-tuned with this recipe for so many classes cannot be exported to the folder.
    """
    classifier_class(recorded_settings(study, arm, seed), recipe, classes)
    exportable_tokenizer(study.runs / "tokenizer")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(f"{folder}: is not an empty folder; choose a new one")


def export_classifier(classifier: Classifier, config: RunConfig, labels: list[str], tokenizer: Path, folder: Path,
                      card: Callable[[str], str] | None = None) -> str:
    """Writes a classifier and its tokenizer for `AutoModelForSequenceClassification.from_pretrained(folder)`; returns
    the name of its class. Its logits are the same. card: gives the content of README.md for the name of the class.
    After an error the folder is unchanged. Raises StudyError if `transformers` has no equivalent."""
    their_model = to_transformers_classifier(classifier.encoder, classifier.classifier, config, classifier.recipe,
                                             labels)
    backend = exportable_tokenizer(tokenizer)
    backend.model_max_length = min(classifier.recipe.max_length, config.examples.max_seq_length)
    with atomic_folder(folder.resolve()) as part:
        their_model.save_pretrained(part)
        backend.save_pretrained(part)
        if card is not None:
            (part / "README.md").write_text(card(type(their_model).__name__), encoding="utf-8")
        give_usual_permissions(part)
    return type(their_model).__name__
