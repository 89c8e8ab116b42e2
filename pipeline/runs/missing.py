"""Print the pins of a lock file whose packages this environment lacks; runs before anything is installed."""

import sys
from importlib import metadata
from pathlib import Path


def missing(lock: Path) -> list[str]:
    """Lines `name==version` of `lock` whose package is not installed, in whatever version."""
    installed = {(each.metadata["Name"] or "").lower().replace("_", "-") for each in metadata.distributions()}
    here = f'"{sys.version_info[0]}.{sys.version_info[1]}"'
    written = lock.read_text(encoding="utf-8").splitlines()
    lines = [line.partition(" ; ") for line in written if not line.startswith("#")]
    pins = [pin for pin, _, marker in lines if not marker or here in marker]
    return [pin for pin in pins if pin.split("==")[0].lower().replace("_", "-") not in installed]


if __name__ == "__main__":
    print(*missing(Path(sys.argv[1])))
