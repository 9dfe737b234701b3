"""The studies whose reports are committed."""
import subprocess

from tests.support.quick_yaml import load_yaml
from tests.support.studies import ROOT


def published_studies() -> dict[str, str]:
    """The name of each study with a committed report -> its folder below the root."""
    params = [ROOT / "params.yaml", *sorted((ROOT / "experiments").glob("*/params.yaml"))]
    names = {load_yaml(path.read_text())["name"]: str(path.parent.relative_to(ROOT)) for path in params}
    committed = subprocess.run(["git", "ls-files", "*/index.html"], cwd=ROOT, capture_output=True, text=True,
                               check=True).stdout
    return {name: folder for name, folder in names.items() if f"reports/{name}/index.html" in committed}
