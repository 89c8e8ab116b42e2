"""What `make` runs: the study's notebooks in order, one of them with other parameters, and the environment they run in."""
