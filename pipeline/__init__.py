"""Runs the notebooks of the study: which, in what order, with which parameters, and what is stored."""
