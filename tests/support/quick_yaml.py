"""YAML by its C library, where it is installed: many tests edit arms.yaml and claims.yaml, which are long."""
from typing import Any

import yaml

LOADER, DUMPER = getattr(yaml, "CSafeLoader", yaml.SafeLoader), getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def load_yaml(text: str) -> Any:
    """What yaml.safe_load returns."""
    return yaml.load(text, Loader=LOADER)


def dump_yaml(content: Any, **options) -> str:
    """What yaml.safe_dump returns."""
    return yaml.dump(content, Dumper=DUMPER, **options)
