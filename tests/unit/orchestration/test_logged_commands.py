"""Commands with a log."""
import os
import sys

from study.orchestration.processes import CellProgress, run_logged


def test_output_that_is_not_utf8_is_logged_and_the_command_is_waited_for(tmp_path):
    progress = CellProgress("a-0", log=tmp_path / "logs" / "a.log")
    code = "import sys; sys.stdout.buffer.write(b'caf\\xe9\\n\\xc3\\xa9t\\xc3\\xa9\\n')"
    run_logged(progress, (sys.executable, "-c", code), tmp_path, dict(os.environ))
    assert progress.status == "done"
    assert progress.log.read_text(encoding="utf-8") == "caf\N{REPLACEMENT CHARACTER}\nété\n"
    assert progress.line == "été"


def test_a_command_that_fails_is_reported(tmp_path):
    progress = CellProgress("a-0", log=tmp_path / "a.log")
    run_logged(progress, (sys.executable, "-c", "raise SystemExit(3)"), tmp_path, dict(os.environ))
    assert progress.status == "failed"
    assert progress.ended >= progress.began
