"""Files that are either whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_core.files import atomic_path, is_temporary


def test_a_file_takes_its_place_whole_and_folders_are_made(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "table.csv"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.parent == target.parent
        assert temporary.suffix == ".csv"
    assert target.read_text() == "whole"
    assert [path.name for path in target.parent.iterdir()] == ["table.csv"]


def test_everybody_may_read_the_file(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_nothing_half_written(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as temporary:
        temporary.write_text("hal")
        raise error
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_a_target_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"), atomic_path(tmp_path / "taken") as temporary:
        temporary.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with atomic_path(target) as first, atomic_path(target) as second:
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["table.csv", "a", ".hidden", "a b.tar.gz", "line\nbreak"])
def test_the_temporary_name_is_known_as_one_and_the_own_name_is_not(tmp_path: Path, name: str) -> None:
    with atomic_path(tmp_path / name) as temporary:
        temporary.touch()
        assert is_temporary(temporary) and not is_temporary(tmp_path / name)


@pytest.mark.parametrize("name", [".gitignore", ".lock", ".ipynb_checkpoints", "." + "a" * 32, "." + "g" * 32 + ".csv"])
def test_other_hidden_names_are_not_temporary(name: str) -> None:
    assert not is_temporary(Path(name))
