"""`make peers`: other libraries measured beside the study's own code, each in an environment of its own.

A peer is one script in this folder that defines

- `REQUIREMENTS`: what pip installs into `.peers/<name>`, pinned; the first line is the library itself, whose version is stored;
- `CASES`: by name, what is compared: `theirs` (settings handed to the script), `ours` (by label, settings handed to `study.py`),
  `both` (more settings, of both sides),
  `measures` (see `__main__`; those of lists where it has none), and `goal`, by measure the ratio theirs / ours to reach, if there
  is one; where it has `threads`, so many are used, and its times are wall times; `changed`, by label, further settings of theirs
  with which it is run again under the longer name; `rounds`, where rounds are seeds and five leave it undecided.
  Settings may name as `rows` a file to fit on instead of a fold, one of those in `rows.FILES`;
- `prepare(folder, fold, settings)`, which reads these files and returns what to time (`fit`), a function for what the model says of
  the test rows (or None), and the number of epochs that `fit` trains. `fold` counts from 1, and is a seed where there are no folds.
  What it says is the RMSE, or for the test users of a file with such, in order of their codes, `lists` of ten films each or
  `scores`, the name of a file of (U, I) numbers.

Nothing of the study or of its tests depends on it: what is measured is stored in `reports/timings_peers.csv`, keyed by machine.
"""
