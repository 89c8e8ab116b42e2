"""`make peers`: other libraries measured beside the study's own code, each in an environment of its own.

A peer is one script in this folder that defines

- `REQUIREMENTS`: what pip installs into `.peers/<name>`, pinned; the first line is the library itself, whose version is stored;
- `CASES`: by name, what is compared: `theirs` (settings handed to the script), `ours` (by label, settings handed to `study.py`),
  `measures` (`fit`, `epoch`, `rmse`), and `goal`, by measure the ratio theirs / ours to reach;
  Settings may name as `rows` the file `ml-1m.npy` to fit on instead of a fold, which `write_rows` writes;
- `prepare(folder, fold, settings)`, which reads what `write_folds` wrote and returns what to time (`fit`), a function for the RMSE
  on the test rows (or None), and the number of epochs that `fit` trains.

Nothing of the study or of its tests depends on it: what is measured is stored in `reports/timings_peers.csv`, keyed by machine.
"""
