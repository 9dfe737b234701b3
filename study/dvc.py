"""DVC's command, with a quicker way to write dvc.lock: `python -m study.dvc repro ...` does what `dvc repro ...` does.

DVC goes over the whole lock in Python at every stage, to keep the comments that a lock has none of: half a second at 20
cells, two at 100. Here libyaml does that, and the new lock takes the old one's place in one step, so that a process
that is killed leaves no half of it.
"""
from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from study.config import EXPONENT, parse_yaml
from study.files import write_atomically


def stages_of(content: bytes) -> dict[str, dict]:
    """The stages in a dvc.lock. Raises yaml.YAMLError, KeyError, TypeError or ValueError where it is not whole."""
    return dict(parse_yaml(content)["stages"])


def write_lock(path: Path, content: dict) -> None:
    """Replaces a dvc.lock, unless it says so already."""
    new = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True).encode()
    if not path.exists() or path.read_bytes() != new:
        write_atomically(path, new)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):
    """Writes as DVC does: no anchors, nothing for null, 1e-06 without a dot."""

    def ignore_aliases(self, data) -> bool:
        return True


_Dumper.add_implicit_resolver(*EXPONENT)
_Dumper.add_representer(float, lambda dumper, value: dumper.represent_scalar(EXPONENT[0], repr(value)))
_Dumper.add_representer(OrderedDict, _Dumper.represent_dict)
_Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", ""))


def main() -> int:
    """Runs DVC's command line. Returns its exit status."""
    from dvc import dvcfile
    from dvc.cli import main as dvc

    modify_yaml = dvcfile.modify_yaml

    @contextmanager
    def modify(path, fs=None) -> Iterator[dict]:
        path = Path(path)
        if path.name != dvcfile.LOCK_FILE:  # in dvc.yaml there are comments
            with modify_yaml(path, fs=fs) as content:
                yield content
            return
        content = parse_yaml(path.read_bytes()) if path.exists() else {}
        yield content
        write_lock(path, content)

    dvcfile.modify_yaml = modify
    return dvc(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
