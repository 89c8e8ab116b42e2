"""The published releases of MovieLens as files: where they come from, how they are laid out, and the cache of their tables."""
