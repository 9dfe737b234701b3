"""Labels of other people's data: a class is the one that the data means, or one line says what was found."""
from pathlib import Path

import datasets
import pytest

from tests.support.bad_input import LINES, edited, edited_task, text_project, written
from tests.support.inputs import Accepted, Refused, check, classes, every, files, situations, summary, task_rows, warned

ZERO_ONE = [0, 1] * 20


def rows(found: list, **settings):
    """40 rows with these labels in turn."""
    return task_rows({"text": LINES, "label": [found[number % len(found)] for number in range(40)]}, **settings)


def named_classes(names: list[str], *labels: str):
    """40 rows whose labels are 0, 1, ... and have these names in the data set itself; `labels` are those of the
    settings."""
    def make(root: Path) -> None:
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        for split in ("train", "test"):
            data = {"text": LINES, "label": [number % len(names) for number in range(40)]}
            datasets.Dataset.from_dict(data, features=features).to_parquet(root / f"data/topics/{split}.parquet")
    return every(make, edited_task(labels=list(labels)))


def table(ending: str, content: str, **settings):
    """The same file for both splits."""
    return every(files("topics", {f"{split}.{ending}": content for split in ("train", "test")}),
                 edited_task(**settings))


def two_tasks(root: Path) -> None:
    import yaml

    path = root / "params.yaml"
    content = yaml.safe_load(path.read_text())
    content["probe"]["tasks"] *= 2
    path.write_text(yaml.safe_dump(content))


def rows_of_each(root: Path) -> dict[str, int]:
    return dict(summary("corpus", "tasks", "topic", "train", "labels")(root))


SWAPPED = [1, 0] * 20
LABELS = [
    ("numbers from 0", rows([0, 1]), Accepted(classes, ZERO_ONE)),
    ("names as words", rows(["b", "a"]), Accepted(classes, SWAPPED)),
    ("names of the data in order", named_classes(["a", "b"], "a", "b"), Accepted(classes, ZERO_ONE)),
    ("names of the data in another order", named_classes(["a", "b"], "b", "a"), Accepted(classes, SWAPPED)),
    ("counts have the right names", named_classes(["Sci/Tech", "World", "Sports"], "World", "Sports", "Sci/Tech"),
     Accepted(rows_of_each, {"World": 13, "Sports": 13, "Sci/Tech": 14})),
    ("names that differ in case", named_classes(["SCI_TECH", "world"], "World", "Sci/Tech"),
     Accepted(classes, SWAPPED)),
    ("another name of one class", named_classes(["neg", "pos"], "neg", "good"), Accepted(classes, ZERO_ONE)),
    ("another name is a warning", named_classes(["neg", "pos"], "neg", "good"),
     Accepted(warned("corpus", "topic: the data has another name of a class: pos is called good"), True)),
    ("other names that label_values give", every(named_classes(["neg", "pos"], "good", "bad"),
                                                 edited_task(label_values=["pos", "neg"])), Accepted(classes, SWAPPED)),
    ("words that differ in case", rows(["sci_tech", "world"], labels=["World", "Sci/Tech"]),
     Accepted(classes, SWAPPED)),
    ("words of which some differ in case", rows(["B", "a"]), Accepted(classes, SWAPPED)),
    ("numbers from 1", rows([1, 2], label_values=[1, 2]), Accepted(classes, ZERO_ONE)),
    ("numbers in another order", rows([4, 0], label_values=[0, 4]), Accepted(classes, SWAPPED)),
    ("unlabelled rows", rows([0, -1, 1, -1], ignored_labels=[-1]), Accepted(classes, [0, 1] * 10)),
    ("unlabelled rows and numbers from 1", rows([1, -1, 2, -1], ignored_labels=[-1], label_values=[1, 2]),
     Accepted(classes, [0, 1] * 10)),
    ("unlabelled rows with names of the data", every(rows([0, 1, -1, -1]), edited_task(ignored_labels=[-1])),
     Accepted(classes, [0, 1] * 10)),
    ("words of its own", rows(["nay", "yea"], label_values=["yea", "nay"]), Accepted(classes, SWAPPED)),
    ("true and false", rows([True, False], labels=["false", "true"]), Accepted(classes, SWAPPED)),
    ("true and false in another order", rows([True, False], labels=["true", "false"]), Accepted(classes, ZERO_ONE)),
    ("true and false in json", table("jsonl", '{"text": "x", "label": true}\n{"text": "y", "label": false}\n' * 20,
                                     labels=["True", "False"]), Accepted(classes, ZERO_ONE)),
    ("true and false that label_values give", rows([True, False], label_values=[False, True]),
     Accepted(classes, SWAPPED)),
    ("true and false as words in label_values", rows([True, False], label_values=["true", "false"]),
     Accepted(classes, ZERO_ONE)),
    ("true and false in csv that label_values give", table("csv", "text,label\n" + "x,true\ny,false\n" * 20,
                                                           label_values=[False, True]), Accepted(classes, SWAPPED)),
    ("true that is left out", rows(["b", "a", "true", "a"], ignored_labels=[True]), Accepted(classes, [1, 0, 0] * 10)),
    ("numbers that are names", rows([0, 1], labels=["1", "0"]), Accepted(classes, SWAPPED)),
    ("numbers in csv that are names", table("csv", "text,label\n" + "some words,0\nother words,1\n" * 20,
                                            labels=["1", "0"]), Accepted(classes, SWAPPED)),
    ("numbers with a point that are names", rows([0.0, 1.0], labels=["1", "0"]), Accepted(classes, SWAPPED)),
    ("names from 1", rows([1, 2], labels=["1", "2"]), Accepted(classes, ZERO_ONE)),
    ("numbers that are names and unlabelled rows", rows([0, 1, -1], labels=["1", "0"], ignored_labels=[-1]),
     Accepted(classes, [1, 0] * 13 + [1])),
    ("numbers that are names in the order of label_values", rows([0, 1], labels=["1", "0"], label_values=[0, 1]),
     Accepted(classes, ZERO_ONE)),
    ("numbers in csv that are names in the order of label_values", table(
        "csv", "text,label\n" + "some words,1\nother words,2\n" * 20, labels=["1", "2"], label_values=[2, 1]),
     Accepted(classes, SWAPPED)),
    ("numbers in their places that are names", rows([0, 1], labels=["0", "more"]), Accepted(classes, ZERO_ONE)),
    ("numbers that are not the names", rows([0, 1], labels=["5", "6"]), Accepted(classes, ZERO_ONE)),
    ("numbers of four classes", rows([0, 1, 2, 3], labels=["World", "Sports", "Business", "Sci/Tech"]),
     Accepted(classes, [0, 1, 2, 3] * 10)),
    ("numbers with a point", rows([0.0, 1.0]), Accepted(classes, ZERO_ONE)),
    ("numbers in csv", table("csv", "text,label\n" + "some words,1\nother words,0\n" * 20), Accepted(classes, SWAPPED)),
    ("words in csv", table("csv", "text,label\n" + "some words,b\nother words,a\n" * 20), Accepted(classes, SWAPPED)),
    ("blanks among numbers in csv", table("csv", "text,label\n" + "some words,1\nother words,0\nno class,\n" * 20,
                                          ignored_labels=[""]), Accepted(classes, SWAPPED)),
    ("blanks among values in csv", table("csv", "text,label\n" + "some words,2\nother words,1\nno class,\n" * 20,
                                         ignored_labels=[""], label_values=[1, 2]), Accepted(classes, SWAPPED)),
    ("names that differ in symbols", named_classes(["C#", "C", "C++"], "C", "C++", "C#"),
     Accepted(rows_of_each, {"C": 13, "C++": 13, "C#": 14})),
    ("numbers from 1 in tsv", table("tsv", "text\tlabel\n" + "some words\t2\nother words\t1\n" * 20,
                                    label_values=[1, 2]), Accepted(classes, SWAPPED)),
    ("words in json", table("jsonl", '{"text": "x", "label": "b"}\n{"text": "y", "label": "a"}\n' * 20),
     Accepted(classes, SWAPPED)),
    ("numbers as words in json", table("jsonl", '{"text": "x", "label": "1"}\n{"text": "y", "label": "0"}\n' * 20),
     Accepted(classes, SWAPPED)),
    ("a small class", rows([0] * 9 + [1]), Accepted(warned("corpus", "the class b has only 4 train rows"), True)),
    ("classes of 20 rows", rows([0, 1]), Accepted(warned("corpus", "has only"), False)),
]
REFUSED = [
    ("refused numbers from 1", rows([1, 2]),
     Refused("labels [1, 2] do not match the 2 names in probe.tasks.labels (a, b); say which is which with "
             "`label_values: [1, 2]`, in the order of the names (1 is a, 2 is b)")),
    ("yes and no", rows(["yes", "no"]),
     Refused('with `label_values: ["no", "yes"]`, in the order of the names (no is a, yes is b)')),
    ("one word is a name", rows(["b", "other"]), Refused('`label_values: ["other", "b"]`, in the order of the names '
                                                         '(other is a, b is b)')),
    ("a word that may be either name", rows(["c", "other"], labels=["C++", "C#"]),
     Refused("do not match the 2 names in probe.tasks.labels (C++, C#); say which is which with `label_values`, in")),
    ("one name in two cases", rows(["a", "A", "b"]), Refused("labels ['A', 'a', 'b'] do not match")),
    ("other names", named_classes(["neg", "pos"], "positive", "negative"),
     Refused('the data calls its classes neg, pos, and probe.tasks.labels are positive, negative: none is the same; '
             'use the names of the data, or say which is which with `label_values: ["neg", "pos"]`, in the order of '
             'the names (neg is positive, pos is negative)')),
    ("several other names", named_classes(["World", "biz", "sci"], "World", "science", "business"),
     Refused('several differ; use the names of the data, or say which is which with `label_values: ["World", "biz", '
             '"sci"]`, in the order of the names (World is World, biz is science, sci is business)')),
    ("other names of another number", named_classes(["neg", "pos", "mixed"], "bad", "good"),
     Refused("none is the same; use the names of the data, or say which is which with `label_values`, in the order")),
    ("numbers with a point from 1", rows([1.0, 2.0]), Refused("convert the column 'label' to whole numbers or words")),
    ("true and false without names", rows([True, False]),
     Refused("labels ['false', 'true'] do not match the 2 names in probe.tasks.labels (a, b); say which is which with "
             '`label_values: ["false", "true"]`, in the order of the names (false is a, true is b)')),
    ("true and false for 0 and 1", rows([True, False], label_values=[0, 1]),
     Refused('with `label_values: ["false", "true"]`')),
    ("true and false for other values", rows([True, False], label_values=[3, 4]),
     Refused('with `label_values: ["false", "true"]`')),
    ("a number that is a name in another place", rows([0, 1], labels=["one", "0"]),
     Refused("labels [0, 1] do not match the 2 names in probe.tasks.labels (one, 0); say which is which with "
             "`label_values: [1, 0]`, in the order of the names (1 is one, 0 is 0)")),
    ("no label", rows([0, None]), Refused("row 1: column 'label' has no value; fill it in, or remove the row")),
    ("names that symbols tell apart", named_classes(["C#", "C"], "c", "c#"),
     Refused('some differ in punctuation only; use the names of the data, or say which is which with `label_values: '
             '["C", "C#"]`, in the order of the names (C is c, C# is c#)')),
    ("refused unlabelled rows", rows([0, 1, -1, -1]),
     Refused("labels [-1, 0, 1] do not match the 2 names in probe.tasks.labels (a, b); 20 rows have -1, which marks "
             "rows without a label: leave them out with `ignored_labels: [-1]`")),
    ("hidden labels", rows([-1]), Refused("every label is -1, which marks rows without one; the labels of this split")),
    ("hidden labels that are left out", rows([-1], ignored_labels=[-1]),
     Refused("every row has one of probe.tasks.ignored_labels (-1); name another split in `splits`")),
    ("unknown word", rows(["a", "b", "c"]), Refused("labels ['a', 'b', 'c'] do not match the 2 names")),
    ("a class too many", rows([0, 1, 2]), Refused("give probe.tasks.labels a name for each of the 3")),
    ("a class too few", rows(["a"]), Refused("no row of b")),
    ("many labels", rows(list(range(40))), Refused("labels [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...] do not match")),
    ("several labels a row", rows([[0], [1]]), Refused("row 0: column 'label' holds")),
    ("parts", rows([0.5, 1.0]), Refused("labels [0.5, 1.0] do not match")),
    ("names that contradict", named_classes(["pos", "neg"], "neg", "good"),
     Refused("data calls its classes pos, neg, and probe.tasks.labels are neg, good: neg is not in the same place; use "
             "the names of the data, or say which is which with `label_values: [\"neg\", \"pos\"]`")),
    ("a missing label in csv", table("csv", "text,label\n" + "some words,a\nother words,\n" * 20),
     Refused("labels ['', 'a'] do not match")),
    ("a name twice", edited_task(labels=["a", "a"]), Refused("probe.tasks.0.labels: 'a' is listed twice")),
    ("the text as label", edited_task(label="text"),
     Refused("probe.tasks.0: label: text is the column of the text as well; name the column of the classes")),
    ("a task twice", two_tasks, Refused("the name 'topic' is listed twice")),
    ("a pooling twice", edited("probe", poolings=["cls", "cls"]), Refused("'cls' is listed twice")),
    ("a size twice", edited("probe", train_sizes=[8, 8]), Refused("8 is listed twice")),
    ("a value twice", edited_task(label_values=[1, 1]), Refused("1 is listed twice")),
    ("too few values", edited_task(label_values=[1, 2, 3]), Refused("3 values for 2 labels; give one for each label")),
    ("a value that is left out", edited_task(label_values=[-1, 1], ignored_labels=[-1]),
     Refused("-1 is one of label_values as well")),
    ("tuned twice", edited("search", arms=["dynamic", "dynamic"]), Refused("'dynamic' is listed twice")),
    ("not a table", written("data/topics/test.parquet", b"nothing"),
     Refused("test.parquet: cannot be read as parquet")),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("labels") / "base"
    text_project(root)
    return root


@pytest.mark.parametrize(("make", "outcome"), situations(LABELS + REFUSED))
def test_labels_as_people_have_them(project, tmp_path, capsys, make, outcome):
    check(tmp_path / "root", project, make, outcome, capsys, "corpus")
