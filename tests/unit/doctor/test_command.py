"""`study doctor` as a command: what it prints and writes, without a study, and its one-line errors."""
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from study import StudyError
from study.cli.app import app, main
from study.cli.doctor import parse_corruption
from tests.support.studies import ROOT

PNG = b"\x89PNG\r\n\x1a\n"
STUCK, LEARNING = (ROOT / f"tests/support/trainer_{name}.json" for name in ("stuck", "learning"))
UNIGRAM = r"unigram frequencies\s*│\s*([\d.]+)\s*│\s*([\d.]+)"


def doctor(*arguments) -> str:
    """What the command prints; an error is raised."""
    result = CliRunner().invoke(app, ["doctor", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def base(text, tokenizer_folder) -> list:
    return ["--text", text, "--tokenizer", tokenizer_folder, "--max-seq-length", 64]


@pytest.fixture(scope="module")
def levels(text, tokenizer_folder, tmp_path_factory) -> dict[str, dict]:
    """The levels of the text by name."""
    out = tmp_path_factory.mktemp("levels") / "out.json"
    doctor("--text", text, "--tokenizer", tokenizer_folder, "--max-seq-length", 64, "--json", out)
    return {level["name"]: level for level in json.loads(out.read_text())["ladder"]["levels"]}


def log_at(folder, levels, shift: float):
    """A CSV log that falls to the unigram level and then to this distance from it."""
    level = levels["unigram"]["own"]
    rows = [(0, levels["uniform"]["own"]), *((step, level + 0.05) for step in range(100, 600, 100)),
            *((step, level + shift) for step in range(600, 1100, 100))]
    path = folder / "log.csv"
    path.write_text("step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in rows))
    return path


def test_without_a_loss_the_ladder_and_the_checks_are_printed(base, levels):
    output = doctor(*base)
    numbers = re.search(UNIGRAM, output)
    assert float(numbers[1]) == pytest.approx(levels["unigram"]["all_mask"], abs=0.006)
    assert float(numbers[2]) == pytest.approx(levels["unigram"]["own"], abs=0.006)
    assert "loss minus it" not in output
    assert "not checked" in output
    assert max(map(len, output.splitlines())) <= 100


def test_a_loss_at_the_unigram_level_is_on_the_plateau(base, levels):
    output = doctor(*base, "--loss", levels["unigram"]["own"] + 0.01)
    assert "nats: on the plateau." in output
    assert "need not use any context" in output
    assert "docs/plateau.md" in output
    assert re.search(UNIGRAM + r"\s*│[^│]*│\s*\+0.01", output)


def test_a_stuck_log_and_one_that_learns(base, levels, tmp_path):
    stuck = " ".join(doctor(*base, "--log", log_at(tmp_path, levels, 0.05)).split())
    assert "at step 1,000: on the plateau." in stuck
    assert "It came there by step 100." in stuck
    learning = " ".join(doctor(*base, "--log", log_at(tmp_path, levels, -0.4)).split())
    assert "at step 1,000: off the plateau." in learning
    assert "It left the plateau at step 600." in learning
    assert "better than: unigram frequencies; worse than: one word on each side: mixture" in learning


def test_files_may_follow_one_option(text, tokenizer_folder, lines, tmp_path):
    more = [tmp_path / "more1.txt", tmp_path / "more2.txt"]
    for path in more:
        path.write_text("\n".join(lines[:100]))
    together = doctor("--text", text, *more, "--tokenizer", tokenizer_folder)
    apart = doctor("--text", text, "--text", more[0], "--tokenizer", tokenizer_folder, f"--text={more[1]}")
    assert together == apart
    assert f"{len(lines) + 200:,} that are not blank" in together


def test_the_same_call_prints_the_same(base):
    assert doctor(*base, "--loss", 5) == doctor(*base, "--loss", 5)


def test_all_mask_has_one_column_and_its_levels(base, levels):
    output = doctor(*base, "--corruption", "100/0/0", "--loss", levels["unigram"]["all_mask"])
    assert "100/0/0, nats" not in output
    assert "on the plateau" in output


def test_records_of_this_project_are_held_against_all_mask(base, levels, tmp_path):
    path = tmp_path / "metrics.jsonl"
    level = levels["unigram"]["all_mask"]
    path.write_text("".join(json.dumps({"step": step, "validation_nll": level}) + "\n" for step in range(5)))
    output = " ".join(doctor(*base, "--log", path).split())
    assert f"Unigram plateau of this text under all [MASK]: {level:.2f} nats." in output


@pytest.mark.parametrize("log", [STUCK, LEARNING])
def test_logs_of_the_trainer_are_read(log, base, tmp_path):
    assert "evaluation loss" in doctor(*base, "--log", log, "--json", tmp_path / "out.json")
    findings = {finding["title"]: finding for finding in json.loads((tmp_path / "out.json").read_text())["findings"]}
    assert "32 rows x 64 tokens" in findings["predicted tokens per step"]["detail"]


def test_a_run_that_diverged(base, tmp_path):
    path = tmp_path / "trainer_state.json"
    bad = '{"step": 20, "loss": NaN}, {"step": 30, "loss": NaN}'
    path.write_text(f'{{"log_history": [{{"step": 10, "loss": 7.0}}, {bad}]}}')
    output = doctor(*base, "--log", path, "--json", tmp_path / "out.json")
    assert "The run diverged at step 20." in output
    assert "NaN" not in (tmp_path / "out.json").read_text()


def test_the_json_holds_what_is_printed(base, levels, tmp_path):
    doctor(*base, "--log", log_at(tmp_path, levels, 0.05), "--json", tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["position"]["state"] == "plateau"
    assert content["position"]["reached"] == 100
    assert [level["name"] for level in content["ladder"]["levels"]] == list(levels)
    assert {"severity", "title", "detail", "remedy"} == content["findings"][0].keys()


@pytest.mark.parametrize("curve", [[], ["--loss", "5.5"], ["--log", LEARNING]])
def test_the_figure_is_a_png(curve, base, tmp_path):
    doctor(*base, *curve, "--figure", tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(PNG)


def test_the_page_holds_figure_and_tables_and_fetches_nothing(base, tmp_path):
    doctor(*base, "--log", STUCK, "--figure", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 1
    for words in ("evaluation loss", "unigram frequencies", "predicted tokens per step", "at step 600"):
        assert words in page
    assert not re.search(r'(?:src|href)="(?!#)', page)


def test_text_in_findings_is_no_markup(tokenizer_folder, lines, tmp_path):
    path = tmp_path / "markup.txt"
    path.write_text("\n".join([*lines, *(["[bold]<script>alert(1)</script> | x[/nothing]"] * 2000)]))
    output = doctor("--text", path, "--tokenizer", tokenizer_folder, "--figure", tmp_path / "page.html")
    assert "[bold]<script>" in output
    assert "<script>alert" not in (tmp_path / "page.html").read_text()


def test_batches_alone_need_no_text(tokenizer_folder, tmp_path, rng):
    ids = rng.integers(7, 900, (64, 64))
    selected = rng.random(ids.shape) < 0.15
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, input_ids=np.where(selected, 4, ids), labels=np.where(selected, ids, -100))
    output = doctor("--tokenizer", tokenizer_folder, "--batch", tmp_path / "a.npz", tmp_path / "b.npz", "--json",
                    tmp_path / "out.json")
    details = " ".join(finding["detail"] for finding in json.loads((tmp_path / "out.json").read_text())["findings"])
    assert "Compatible with 100/0/0" in details
    assert "static masking" in details
    assert "The ladder" not in output
    assert "Pass --corruption 100/0/0" in " ".join(output.replace("│", "").split())
    output = doctor("--tokenizer", tokenizer_folder, "--batch", tmp_path / "a.npz", "--corruption", "100/0/0")
    assert "Pass --corruption" not in " ".join(output.replace("│", "").split())


def test_unusual_shares_of_corruption():
    assert parse_corruption("80/10/10") == (0.8, 0.1, 0.1)
    assert sum(parse_corruption("33.3/33.3/33.4")) == pytest.approx(1)


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "nothing to examine; pass --text, --batch or both"),
    (["--loss", "7"], "a loss is held against a text; pass --text too"),
    (["--text", "TEXT", "--loss", "7", "--log", STUCK], "both --loss and --log; pass one of them"),
    (["--text", "TEXT", "--loss", "-1"], "--loss -1: a cross-entropy is not negative"),
    (["--text", "TEXT", "--loss", "nan"], "--loss nan: the run has diverged"),
    (["--text", "TEXT", "--corruption", "80/10"], "--corruption 80/10: three percentages are needed, such as 80/10/10"),
    (["--text", "TEXT", "--corruption", "80/10/20"], "--corruption 80/10/20: .* must add up to 100"),
    (["--text", "TEXT", "--mlm-probability", "15"], "--mlm-probability 15: must be between 0 and 1, such as 0.15"),
    (["--text", "TEXT", "--sample-mb", "0"], "--sample-mb 0: must be between 0.1 and 100,000"),
    (["--text", "TEXT", "--figure", "a.pdf"], "a.pdf: --figure writes .png or .html"),
    (["--batch", "a.npz", "--figure", "a.png"], "a.png: the figure shows the ladder of a text; pass --text, or write"),
    (["--text", "missing.txt"], "missing.txt: no such file"),
])
def test_a_wrong_option_is_one_line_with_the_remedy(arguments, message, text, tokenizer_folder):
    arguments = [str(text) if word == "TEXT" else word for word in arguments]
    with pytest.raises(StudyError, match=message) as error:
        doctor("--tokenizer", tokenizer_folder, *arguments)
    assert len(str(error.value).splitlines()) == 1


def test_errors_of_the_command_have_status_2(monkeypatch, capsys, tokenizer_folder):
    monkeypatch.setattr("sys.argv", ["study", "doctor", "--text", "missing.txt", "--tokenizer", str(tokenizer_folder)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.startswith("error: missing.txt: no such file")


def test_the_help_names_every_option():
    output = CliRunner().invoke(app, ["doctor", "--help"], env={"COLUMNS": "200"}).output
    for option in ("--text", "--tokenizer", "--loss", "--log", "--batch", "--figure", "--json", "--column",
                   "--corruption", "--mlm-probability", "--max-seq-length", "--batch-size", "--sample-mb", "--seed"):
        assert option in output


def test_loading_the_command_line_loads_no_heavy_library():
    heavy = "{'torch', 'transformers', 'pandas', 'scipy', 'matplotlib', 'numpy', 'tokenizers'}"
    code = f"import sys, study.cli.app; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
