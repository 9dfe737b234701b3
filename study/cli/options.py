"""How a command names its study, and the options that several commands share.

Every command accepts its study in two forms: `--study FOLDER` (or `-s FOLDER`), or the folder as the first argument.
The default is the current folder.
"""
from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand
from typer.models import ArgumentInfo

from study import StudyError

Arm = Annotated[str, typer.Option(help="Arm, as named in experiments/arms.yaml.")]
Seed = Annotated[int, typer.Option(help="Seed of the cell.")]
# Written out, since typer does not see the help of `Arm` in `Arm | None`.
OptionalArm = Annotated[str | None, typer.Option(help="Arm, as named in experiments/arms.yaml.")]
OptionalSeed = Annotated[int | None, typer.Option(help="Seed of the cell.")]
Cell = Annotated[str, typer.Option(help="Cell: an arm and a seed, such as dynamic-0.")]

StudyOption = Annotated[Path | None, typer.Option(
    "--study", "-s", metavar="FOLDER", show_default="this folder",
    help="The study: a folder with params.yaml. It may also be the first argument.")]
StudyArgument = Annotated[Path | None, typer.Argument(metavar="STUDY", hidden=True)]


class StudyFirst(TyperCommand):
    """A command with arguments of its own. If the first one is the folder of a study, it is read as `--study`."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        if args and os.path.isfile(os.path.join(args[0], "params.yaml")):
            args = ["--study", *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx) -> list[str]:
        options, *arguments = super().collect_usage_pieces(ctx)
        return [options, "[STUDY]", *arguments]


def study_command(group: typer.Typer, panel: str) -> Callable[[Callable], Callable]:
    """A decorator that adds a function to `group` as a command, listed under `panel` in the help.

    The function's first parameter is the loaded Study; its other parameters are the options and arguments of the
    command. The command adds the option `--study`, and the argument STUDY if the function has no argument of its own.
    """
    def register(function: Callable) -> Callable:
        hints = get_type_hints(function, localns={"Study": Any}, include_extras=True)
        own = [parameter.replace(annotation=hints[parameter.name])
               for parameter in list(inspect.signature(function).parameters.values())[1:]]
        has_arguments = any(isinstance(note, ArgumentInfo)
                            for parameter in own for note in getattr(parameter.annotation, "__metadata__", ()))
        added = [_parameter("study", StudyOption)] + ([] if has_arguments else [_parameter("folder", StudyArgument)])

        def command(study: Path | None = None, folder: Path | None = None, **values) -> None:
            function(_load(study, folder), **values)

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__signature__ = inspect.Signature(
            [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in [*own, *added]])
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *added]}
        group.command(rich_help_panel=panel, cls=StudyFirst if has_arguments else TyperCommand)(command)
        return function

    return register


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _load(option: Path | None, argument: Path | None):
    """The study that a command names. Raises StudyError if it names two, or if the study is in another copy of the
    project than this code."""
    from study.config.load import load_study

    if option is not None and argument is not None and option != argument:
        raise StudyError(f"two studies, {argument} and {option}; name the study once")
    study = load_study(option or argument or Path("."))
    code, there = Path(__file__).parents[1], (study.root / "study").resolve()
    if (there / "cli").is_dir() and not there.samefile(code):
        raise StudyError(f"{there}: this command would run other code than that, {code}; run `make install` in "
                         f"{there.parent} and use the command in its .venv/bin")
    return study
