"""Classification tasks: a class that has no row is named, with what to change."""
import pandas as pd
import pytest

from study import StudyError
from study.data.tasks import check_labels


@pytest.mark.parametrize(("rows", "remedy"), [
    (3, r"raise probe\.tasks\.test_rows \(3\) in params\.yaml, or remove the name"),
    (9, r"name another split in `splits` in params\.yaml, or remove the name"),
    (None, r"name another split in `splits` in params\.yaml, or remove the name")])
def test_a_class_without_a_row_is_named_with_what_to_change(study, rows, remedy):
    task = study.settings.probe.tasks[0].model_copy(update={"labels": ["a", "b", "c"], "test_rows": rows,
                                                            "local": "topics"})
    check_labels(task, "test", pd.DataFrame({"label": [2, 0, 1]}))
    with pytest.raises(StudyError, match=r"^topics \(test\): task .*labels \[0, 2\] do not match the 3 names in "
                                         rf"probe\.tasks\.labels: no row of b; {remedy}$"):
        check_labels(task, "test", pd.DataFrame({"label": [2, 0, 2]}))
