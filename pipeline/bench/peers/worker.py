"""Times one fit on one fold and prints it as JSON: `python -P worker.py SCRIPT FOLDER FOLD SETTINGS`.

It runs with the interpreter of the script's own environment, and so needs the standard library alone.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Prepare, time, evaluate; memory is the most until then. What a library prints is kept away from the result, the last line."""
    script, folder, fold, settings = sys.argv[1:]
    del sys.argv[1:]  # some libraries read it
    spec = importlib.util.spec_from_file_location("peer_script", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fit, judge, epochs = module.prepare(Path(folder), int(fold), json.loads(settings))
    wall, processor = time.perf_counter(), time.process_time()
    fit()
    measured = {"processor": time.process_time() - processor, "wall": time.perf_counter() - wall, "epochs": epochs}
    measured["memory"] = peak_memory_mb()
    judged = judge() if judge else None
    print("\n" + json.dumps(measured | (judged if isinstance(judged, dict) else {"rmse": judged})))


def peak_memory_mb() -> float:
    """The most memory that this process has held, in MB; NaN where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1.024e-3 for line in lines if line.startswith("VmHWM:")), float("nan"))


if __name__ == "__main__":
    main()
