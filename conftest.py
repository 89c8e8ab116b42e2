"""Settings of all tests."""

import pytest


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `make test` sets for the notebooks does not reach the unit tests."""
    for name in ("RECSYS_OUTPUT", "RECSYS_POLICY", "RECSYS_SCRATCH", "RECSYS_REPLACE", "RECSYS_LOG"):
        monkeypatch.delenv(name, raising=False)
