"""Every command: its help, its example, and the forms in which it accepts a study."""
import os
import re
import shlex
import subprocess
import sys

import pytest
import typer
import yaml
from typer.testing import CliRunner

from study import StudyError
from study.cli.app import app, main
from tests.support.studies import ROOT

COMMANDS = {name: command for name, command in typer.main.get_command(app).commands.items() if not command.hidden}
STUDY_COMMANDS = [name for name in COMMANDS if name != "doctor"]        # it examines runs of any project
FORMS = {"first argument": lambda name, folder, rest: [name, folder, *rest],
         "--study": lambda name, folder, rest: [name, *rest, "--study", folder],
         "-s": lambda name, folder, rest: [name, *rest, "-s", folder]}


def example(name: str) -> list[str]:
    """The arguments of the example in the help of a command."""
    words = shlex.split(re.search(r"Example: study (.*)", " ".join(COMMANDS[name].help.split("\n")))[1])
    assert words[0] == name
    return words[1:]


def without_study(arguments: list[str]) -> list[str]:
    kept = [word for word in arguments if not word.startswith("experiments/")]
    return [word for word in kept if word not in ("--study", "--from", "-s")]


class Loaded(Exception):
    """Raised in place of loading a study."""


@pytest.fixture
def loaded(monkeypatch):
    """Runs a command up to the point at which it loads its study. Returns the folder of that study."""
    def load(folder):
        raise Loaded(str(folder))

    def invoke(*arguments: str) -> str:
        error = CliRunner().invoke(app, arguments).exception
        assert isinstance(error, Loaded), (arguments, error)
        return str(error)

    monkeypatch.setattr("study.config.load.load_study", load)
    return invoke


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_the_command_does_what_it_writes_and_how_to_call_it(name):
    output = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
    paragraphs = [" ".join(paragraph.split()) for paragraph in COMMANDS[name].help.split("\n\n")]
    assert paragraphs[0].endswith(".")
    assert any(paragraph.startswith(("Writes: ", "Writes nothing")) for paragraph in paragraphs)
    assert paragraphs[-1].startswith(f"Example: study {name}")
    assert all(paragraph in " ".join(output.split()) for paragraph in paragraphs)


def test_the_help_names_the_one_command_without_a_study():
    output = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output.split())
    with_study = [name for name, command in COMMANDS.items() if any("--study" in option.opts
                                                                   for option in command.params)]
    assert with_study == STUDY_COMMANDS
    assert "Every command but `doctor` takes the folder of its study" in output


@pytest.mark.parametrize("name", STUDY_COMMANDS)
def test_the_example_names_a_study_of_this_project(name, loaded):
    folder = loaded(name, *example(name))
    assert (ROOT / folder / "params.yaml").exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", STUDY_COMMANDS)
def test_a_study_can_be_named_in_every_form(name, form, loaded, tmp_path):
    (tmp_path / "params.yaml").touch()
    assert loaded(*FORMS[form](name, str(tmp_path), without_study(example(name)))) == str(tmp_path)


@pytest.mark.parametrize("name", STUDY_COMMANDS)
def test_the_default_study_is_the_current_folder(name, loaded):
    assert loaded(name, *without_study(example(name))) == "."


def test_the_folder_may_follow_the_options(loaded):
    assert loaded("pretrain", "--arm", "dynamic", "--seed", "0", "experiments/tiny") == "experiments/tiny"


def test_two_studies_are_refused():
    with pytest.raises(StudyError, match="two studies, a and b; name the study once"):
        CliRunner().invoke(app, ["report", "a", "--study", "b"], catch_exceptions=False)


@pytest.mark.parametrize("arguments", [["report", "no-such-folder"], ["claims", "--study", "no-such-folder"]])
def test_a_folder_without_a_study_is_one_line(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["study", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: no-such-folder/params.yaml: no such file")


def test_errors_of_the_file_system_are_one_line_and_others_are_raised(monkeypatch, capsys):
    def fails(error):
        def command() -> None:
            raise error
        return command

    monkeypatch.setattr("study.cli.app.app", fails(PermissionError(13, "Permission denied", "runs/tiny")))
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err == "error: runs/tiny: Permission denied\n"
    monkeypatch.setattr("study.cli.app.app", fails(OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        main()


def test_every_stage_of_the_pipeline_has_a_command(loaded):
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for name, stage in stages.items():
        arguments = shlex.split(re.sub(r"\$\{item\.arm\}", "dynamic", re.sub(r"\$\{item\.seed\}", "0", stage["cmd"])))
        assert arguments[:2] == ["study", name]
        assert loaded(*arguments[1:]) == "."


@pytest.mark.parametrize(("flags", "kernels"), [("fpu avx2 sse2", "Haswell"), ("fpu sse2 avx2", "Haswell"),
                                                ("fpu sse2", None)])
def test_numpy_has_the_same_kernels_on_every_processor_with_avx2(tmp_path, flags, kernels):
    """The module reads /proc/cpuinfo when it is imported, before NumPy is."""
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    code = (ROOT / "study/cli/app.py").read_text().replace("/proc/cpuinfo", str(tmp_path / "cpuinfo"))
    program = f"{code}\nassert 'numpy' not in sys.modules\nprint(os.environ.get('OPENBLAS_CORETYPE'))"
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, text=True, capture_output=True,
                          check=True)
    assert done.stdout.strip() == str(kernels)
