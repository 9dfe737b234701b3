"""Minimal pairs in words of the built-in language, for the tiny study."""
from pathlib import Path

import pandas as pd

TASK = """  minimal_pairs:
    - name: order
      path: made/up
      revision: null
      local: pairs
      splits: {test: train}
      good: sentence_good
      bad: sentence_bad
      phenomenon: linguistics_term
      paradigm: UID
      pairs_per_paradigm: PAIRS
"""


def with_pairs(text: str, most: str = "null") -> str:
    """The tiny study's params.yaml with this task; most: pairs per paradigm."""
    before, rest = text.split("\nevaluation: {", 1)
    settings, rest = rest.split("}\n", 1)
    lines = "".join(f"  {setting.strip()}\n" for setting in settings.split(","))
    return f"{before}\nevaluation:\n{lines}{TASK.replace('PAIRS', most)}{rest}"


def write_pairs(folder: Path, sentences: list[str], count: int = 12) -> pd.DataFrame:
    """Writes pairs/test.parquet below `folder` and returns its rows: three paradigms of two phenomena, `count` pairs
    each. A bad sentence is the good one backwards; in `same`, it is the good one."""
    folder = folder / "pairs"
    folder.mkdir(parents=True)
    rows = []
    for number, (paradigm, phenomenon) in enumerate((("short", "order"), ("long", "order"), ("same", "none"))):
        for good in sentences[number * count:(number + 1) * count]:
            bad = good if paradigm == "same" else " ".join(reversed(good.split()))
            rows.append({"sentence_good": good, "sentence_bad": bad, "UID": paradigm, "linguistics_term": phenomenon})
    frame = pd.DataFrame(rows)
    frame.to_parquet(folder / "test.parquet", index=False)
    return frame
