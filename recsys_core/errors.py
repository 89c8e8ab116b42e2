"""The one error that a user of the study can cause."""


class StudyError(ValueError):
    """Says in one sentence what was wrong, where, and what to do."""
