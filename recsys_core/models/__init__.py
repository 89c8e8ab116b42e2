"""The recommenders of the study, one file per family."""
