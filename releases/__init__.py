"""The published releases of MovieLens as files: where they come from, and how they are laid out."""
