"""Hashes of source code: they follow what the code does, not its wording, and are the same on every Python version."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from study.orchestration.syntax_hash import file_hash, syntax_hash
from tests.support.studies import ROOT

SOURCE = '''"""A module."""
import math

LIMIT = 3.5                                 # the largest radius
NAMES = ("circle", f"{LIMIT:.1f}-{'ball'}")


class Circle:
    """A circle."""
    radius: float
    """In metres."""

    def area(self, scale=1.0):
        """The area."""
        if self.radius > LIMIT:
            raise ValueError(f"{self.radius} is larger than {LIMIT}")
        return scale * math.pi * self.radius ** 2
'''
REWORDED = {
    "module docstring": ('"""A module."""', '"""Areas of shapes."""'),
    "no module docstring": ('"""A module."""\n', ""),
    "class docstring": ('"""A circle."""', '"""A round shape."""'),
    "docstring of a field": ('"""In metres."""', '"""The radius in m."""'),
    "function docstring": ('        """The area."""\n', ""),
    "comment": ("# the largest radius", "# metres"),
    "error text": ("is larger than {LIMIT}", "must be at most {LIMIT}"),
    "plain error text": ('f"{self.radius} is larger than {LIMIT}"', '"too large"'),
    "layout": ("scale * math.pi * self.radius ** 2", "(scale * math.pi\n                * self.radius ** 2)"),
    "quotes": ('"circle"', "'circle'"),
    "joined text": ('"circle"', '"cir" "cle"'),
    "joined f-string": ("f\"{LIMIT:.1f}-{'ball'}\"", "f\"{LIMIT:.1f}\" f\"-{'ball'}\""),
}
CHANGED = {
    "constant": ("LIMIT = 3.5", "LIMIT = 3.6"),
    "type of a constant": ("scale=1.0", "scale=1"),
    "text": ('"circle"', '"Circle"'),
    "format": (":.1f}", ":.2f}"),
    "operator": ("** 2", "** 3"),
    "condition": ("> LIMIT", ">= LIMIT"),
    "error class": ("raise ValueError", "raise KeyError"),
    "name": ("class Circle", "class Disc"),
    "default": ("scale=1.0", "scale=2.0"),
    "order": ("scale * math.pi", "math.pi * scale"),
    "no error": ("            raise ValueError(f\"{self.radius} is larger than {LIMIT}\")\n", "            return 0\n"),
}
# Syntax that Python versions represent in different ways, and the hash that all of them must give.
GOLDEN = [
    ('f"{x!r:>{w}}"', "1375767350e02ef9"),
    ('f"a{b}c" "d" f"{e=}"', "95980e939427271d"),
    ("f'''{x:\n{y}}z'''", "7dfa871f51ccecb3"),
    ("f'{{}}{x}{{'", "bb54c82ec1ea0941"),
    ("f''", "c6e455b40da038ec"),
    ("x = 1e-5, 10**20, '\\ud800', b'\\xff', 1j, ..., None, True", "126fd1530c733a70"),
    ("match x:\n  case {'a': 1, **r}: pass\n  case [1, *_]: pass", "2d31c6ab7b4803f3"),
    ('try:\n  pass\nexcept* E:\n  pass', "c3b29208e68a38ab"),
    ('lambda *a, k=1, **kw: (yield)', "058523b2f8cf1528"),
    ('f\'{x:{"a"}b}\'', "aaab0690c0f77234"),
    ("rf'\\d{x}'", "c094d7aa9611dd18"),
    ('def f(a, /, b, *, c: int = 1) -> int: ...', "a3ad2c47d4c55235"),
    ('class A(B, metaclass=M): x: int = 1', "aef71c6844588742"),
    ('async def f():\n  async with a as b, c: return [x async for x in y if x]', "6ea311c1860e0413"),
    ("x = u'text'", "a44989f1a4d58c47"),
]


@pytest.mark.parametrize("name", REWORDED)
def test_rewording_does_not_change_the_hash(name):
    old, new = REWORDED[name]
    assert SOURCE.count(old) == 1
    assert syntax_hash(SOURCE.replace(old, new)) == syntax_hash(SOURCE)


@pytest.mark.parametrize("name", CHANGED)
def test_a_change_of_the_code_changes_the_hash(name):
    old, new = CHANGED[name]
    assert SOURCE.count(old) == 1
    assert syntax_hash(SOURCE.replace(old, new)) != syntax_hash(SOURCE)


def test_other_files_are_hashed_by_their_bytes(tmp_path):
    (tmp_path / "a.md").write_text("# text\n")
    (tmp_path / "b.md").write_text("# other text\n")
    assert file_hash(tmp_path / "a.md") != file_hash(tmp_path / "b.md")


def test_source_that_is_not_python_is_an_error():
    with pytest.raises(SyntaxError):
        syntax_hash("def f(:")


@pytest.mark.parametrize(("source", "digest"), GOLDEN)
def test_hashes_are_the_recorded_ones(source, digest):
    assert syntax_hash(source)[:16] == digest


def installed_python(version: str) -> str | None:
    """Returns a Python of this version that starts, on the path or among pyenv's; None if there is none."""
    of_pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for python in filter(None, (shutil.which(f"python{version}"), *map(str, of_pyenv))):
        if not subprocess.run([python, "--version"], capture_output=True).returncode:    # pyenv's shims may not start
            return python
    return None


RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize("version", sorted({"3.11", "3.12", "3.13"} - {RUNNING}))
def test_every_python_version_gives_the_same_hashes(version):
    """For the modules of the package and the syntax above, with every other Python that is installed.

    The recorded hashes above are checked under whatever Python runs the tests, so a version that is missing here is
    checked where it is installed.
    """
    python = installed_python(version)
    script = ("import pathlib, runpy, sys; functions = runpy.run_path(sys.argv[1]); root = pathlib.Path(sys.argv[2]);"
              "print(*map(functions['file_hash'], sorted((root / 'study').rglob('*.py'))),"
              "*map(functions['syntax_hash'], map(eval, sys.argv[3:])))")
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    module = ROOT / "study" / "orchestration" / "syntax_hash.py"
    command = [python, "-c", script, str(module), str(ROOT), *(ascii(source) for source, _ in GOLDEN)]
    hashes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert hashes == [*map(file_hash, sorted((ROOT / "study").rglob("*.py"))),
                      *(syntax_hash(source) for source, _ in GOLDEN)]
