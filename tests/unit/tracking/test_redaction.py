"""No message, page or command line shows the password of the tracker."""
import pytest

from study import StudyError
from study.tracking.client import serve_ui, wrap_mlflow_errors
from study.tracking.live import LiveRun
from study.tracking.redaction import redacted
from study.tracking.views import write_links
from tests.support.fake_results import fake_study

PASSWORD = "s3cret" * 40                    # longer than what is shown of an error
ADDRESS = f"https://alice:{PASSWORD}@host:5000"


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESS)
    return fake_study(tmp_path / "study")


@pytest.mark.parametrize(("text", "expected"), [
    ("MLflow at https://alice:s3cret@host: down", "MLflow at https://host: down"),
    ("postgresql://alice:s3/c@ret@host/base", "postgresql://host/base"),
    ("http://a:b@one and http://c:d@two", "http://one and http://two"),
    ("http://127.0.0.1:9/api, then models:/tiny@best", "http://127.0.0.1:9/api, then models:/tiny@best"),
])
def test_user_and_password_are_removed(text, expected):
    assert redacted(text) == expected


def test_an_error_that_is_cut_within_the_password_does_not_show_it(study):
    with pytest.raises(StudyError, match="MLflow at https://host:5000: .*run `study track` again") as error, \
            wrap_mlflow_errors(study, "track"):
        raise OSError(f"no answer from {ADDRESS}/api")
    assert "s3cret" not in str(error.value)


def test_an_error_of_ours_is_not_called_one_of_mlflow(study):
    with pytest.raises(KeyError, match="accuracy"), wrap_mlflow_errors(study, "track"):
        raise KeyError("accuracy")


def test_the_warning_of_a_live_run_does_not_show_it(study, monkeypatch, capsys):
    def fail(self, cell, step):
        raise OSError(f"no answer from {ADDRESS}/api")

    monkeypatch.setattr(LiveRun, "_open", fail)
    with LiveRun(study, delay=0) as run:
        run.start({})
        run.log({"step": 0}, 0.0)
    shown = capsys.readouterr().err
    assert "no answer from https://host:5000/api" in shown
    assert "s3cret" not in shown


def test_the_page_with_links_does_not_show_it(study):
    write_links(study, ADDRESS, "1", [])
    page = (study.reports / "mlflow.html").read_text()
    assert "open the server at https://host:5000" in page
    assert "s3cret" not in page


def test_the_ui_shows_it_neither_in_its_error_nor_on_its_command_line(study, monkeypatch):
    with pytest.raises(StudyError, match="open https://host:5000 in a browser"):
        serve_ui(study, 5001)
    calls, database = [], f"postgresql://alice:{PASSWORD}@host/base"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setattr("study.tracking.client._check_port", lambda port: None)
    monkeypatch.setattr("os.execve", lambda path, arguments, environment: calls.append((arguments, environment)))
    serve_ui(study, 5001)
    ((arguments, environment),) = calls
    assert "s3cret" not in " ".join(arguments)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == database
