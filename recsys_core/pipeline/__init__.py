"""Runs the notebooks of the study: what must run, in which order, with which parameters, and what is stored of it."""
