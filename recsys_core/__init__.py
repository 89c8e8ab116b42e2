"""The small module behind the study "Neural recommenders on MovieLens, reproduced"."""

__version__ = "0.1.0"
