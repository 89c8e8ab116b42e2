"""Times one fit on one fold and prints it as JSON: `python -P worker.py SCRIPT FOLDER FOLD SETTINGS`.

It runs with the interpreter of the script's own environment, and so needs the standard library alone.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Prepare, time, evaluate; what a library prints is kept away from the result, which is the last line."""
    script, folder, fold, settings = sys.argv[1:]
    del sys.argv[1:]  # some libraries read it
    spec = importlib.util.spec_from_file_location("peer_script", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fit, rmse, epochs = module.prepare(Path(folder), int(fold), json.loads(settings))
    wall, processor = time.perf_counter(), time.process_time()
    fit()
    measured = {"processor": time.process_time() - processor, "wall": time.perf_counter() - wall, "epochs": epochs}
    print("\n" + json.dumps(measured | {"rmse": rmse() if rmse else None}))


if __name__ == "__main__":
    main()
