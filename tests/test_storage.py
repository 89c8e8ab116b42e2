"""Model files that are damaged, foreign or made by hand: one sentence each, whatever is wrong with them."""

from __future__ import annotations

import json
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from boards import PLAYERS, fitted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from recsys_core.errors import StudyError
from recsys_core.models import MODELS, Recommender, storage

# One of each kind of state: named arrays, weights of a network, what is computed from the rows again, members.
KINDS = [
    "bias",
    "ease",
    "embedding_recommender",
    "demographic_popularity",
    "ials",
    "implicit_item_knn",
    "weighted_hybrid",
]
few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass
class File:
    """What a model file holds, to be changed and written again with a checksum that is right."""

    header: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, path: Path) -> File:
        fitted(name).save(path)
        with safe_open(path, framework="numpy") as file:
            return cls(json.loads(file.metadata()["settings"]), {key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118

    def write(self, path: Path) -> None:
        text = json.dumps(self.header, sort_keys=True)
        save_file(self.arrays, path, metadata={"settings": text, "sha256": storage.checksum(text, self.arrays)})

    def largest(self, part: str) -> str:
        return max((name for name in self.arrays if name.startswith(part)), key=lambda name: self.arrays[name].size)


def refused(path: Path) -> str:
    """The one sentence in which the file is refused, by its name."""
    with pytest.raises(StudyError) as error:
        Recommender.load(path)
    said = str(error.value)
    assert str(path) in said and "\n" not in said and said.endswith(".") and "save" in said
    return said


def put(name: str, value: object) -> Callable[[File], None]:
    return lambda file: file.header.__setitem__(name, value)


def setting(name: str, value: object) -> Callable[[File], None]:
    return lambda file: file.header["hyperparameters"].__setitem__(name, value)


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[File], None]:
    return lambda file: file.arrays.__setitem__(name, np.ascontiguousarray(change(file.arrays[name])))


def learnt(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[File], None]:
    return lambda file: array(file.largest("model."), change)(file)


def with_code(code: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda codes: np.r_[codes[:-1], code]


def renamed(file: File) -> None:
    file.arrays["model.other"] = file.arrays.pop(file.largest("model."))


OF_EVERY_MODEL: dict[str, Callable[[File], Any]] = {
    "a model as a number": put("model", 3),
    "a list of models": put("model", ["EASE"]),
    "a model that nobody knows": put("model", "Oracle"),
    "an abstract model": put("model", "Recommender"),
    "a kind of models": put("model", "NeuralRecommender"),
    "another model": put("model", "SVDPlusPlus"),
    "no users": put("n_users", 0),
    "users as text": put("n_users", "51"),
    "a NaN of users": put("n_users", float("nan")),
    "half a user": put("n_users", 50.5),
    "true users": put("n_users", True),
    "fewer users": put("n_users", 3),
    "more items": put("n_items", 90),
    "no settings": lambda file: file.header.pop("hyperparameters"),
    "settings as a list": put("hyperparameters", []),
    "an unknown setting": setting("speed", 1),
    "no columns": lambda file: file.header.pop("columns"),
    "columns as text": put("columns", "age"),
    "columns of other tables": put("columns", {"films": ["age"]}),
    "columns missing": put("columns", {"user_features": ["age"], "item_features": ["genre_a", "genre_b", "genre_c"]}),
    "columns twice": put("columns", {"user_features": ["age"] * 2, "item_features": ["genre_a", "genre_b", "genre_c"]}),
    "columns as numbers": put("columns", {"user_features": [1, 2], "item_features": ["genre_a", "genre_b", "genre_c"]}),
    "a table without columns": lambda file: file.header["columns"].pop("user_features"),
    "no users of rows": lambda file: file.arrays.pop("train.users"),
    "no times of rows": lambda file: file.arrays.pop("train.times"),
    "no rows": lambda file: [file.arrays.pop(name) for name in list(file.arrays) if name.startswith("train.")],
    "empty rows": lambda file: [array(f"train.{name}", lambda x: x[:0])(file) for name in storage.COLUMNS],
    "fewer ratings": array("train.ratings", lambda x: x[:-1]),
    "ratings in a table": array("train.ratings", lambda x: x[:, None]),
    "ratings as whole numbers": array("train.ratings", lambda x: x.astype(np.int64)),
    "users as decimals": array("train.users", lambda x: x.astype(np.float64)),
    "a user below 0": array("train.users", with_code(-1)),
    "a user outside": array("train.users", with_code(51)),
    "an item outside": array("train.items", with_code(10**12)),
    "another array": lambda file: file.arrays.__setitem__("model.more", np.zeros(3)),
    "an array of nothing": lambda file: file.arrays.__setitem__("elsewhere", np.zeros(3)),
    "other attributes": array("train.user_features", lambda x: x[:-1]),
    "attributes of another type": array("train.user_features", lambda x: x.astype(np.float64)),
}
OF_LEARNT_ARRAYS: dict[str, Callable[[File], Any]] = {
    "an array missing": lambda file: file.arrays.pop(file.largest("model.")),
    "an array of another name": renamed,
    "fewer rows": learnt(lambda x: x[: len(x) // 2]),
    "no rows": learnt(lambda x: x[:0]),
    "one more dimension": learnt(lambda x: x[None, None]),
    "complex numbers": learnt(lambda x: x.astype(np.complex64)),
}
OF_ONE_MODEL: dict[str, tuple[str, Callable[[File], Any]]] = {
    "a setting as text": ("ease", setting("regularisation", "much")),
    "a setting as a list": ("ease", setting("regularisation", [1])),
    "a NaN as a setting": ("ease", setting("regularisation", float("nan"))),
    "a setting too small": ("ials", setting("embedding_dim", 0)),
    "a decimal for a whole number": ("ials", setting("embedding_dim", 8.5)),
    "another width": ("ials", setting("embedding_dim", 9)),
    "true for a number": ("embedding_recommender", setting("epochs", True)),
    "a device that nobody has": ("embedding_recommender", setting("device", "abacus")),
    "texts for numbers": ("demographic_popularity", setting("age_limits", ["18", "25"])),
    "no attributes for a model of attributes": (
        "demographic_popularity",
        lambda file: (file.header["columns"].pop("user_features"), file.arrays.pop("train.user_features")),
    ),
    "members as a list": ("weighted_hybrid", setting("members", ["svd", "bayesian_fm"])),
    "an unknown member": ("weighted_hybrid", setting("members", {"svd": {}, "oracle": {}})),
    "a member with an unknown setting": (
        "weighted_hybrid",
        setting("members", {"svd": {"speed": 1}, "bayesian_fm": {}}),
    ),
    "a member with a text for a number": ("weighted_hybrid", setting("members", {"svd": {"epochs": "3"}, "bias": {}})),
    "weights as texts": ("weighted_hybrid", setting("weights", ["a", "b"])),
}
BY_HAND = [
    *((name, kind, change) for name, change in OF_EVERY_MODEL.items() for kind in KINDS),
    *(
        (name, kind, change)
        for name, change in OF_LEARNT_ARRAYS.items()
        for kind in KINDS
        if kind != "implicit_item_knn"
    ),
    *((name, kind, change) for name, (kind, change) in OF_ONE_MODEL.items()),
]


@pytest.mark.filterwarnings("ignore:The use of `x.T`:UserWarning")
@pytest.mark.parametrize(("kind", "change"), [pytest.param(k, c, id=f"{k}-{n}") for n, k, c in BY_HAND])
def test_a_file_that_somebody_changed_is_refused_in_one_sentence(
    kind: str, change: Callable[[File], Any], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    file = File.of(kind, path)
    change(file)
    file.write(path)
    refused(path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_tests_write_again_unchanged_is_the_same_model(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    File.of(kind, path).write(path)
    assert torch.equal(MODELS[kind].load(path).score(PLAYERS), fitted(kind).score(PLAYERS))


@pytest.mark.parametrize("value", [float("nan"), 3.0])
def test_a_changed_number_is_told_by_the_checksum(value: float, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    file = File.of("ease", path)
    text = json.dumps(file.header, sort_keys=True)
    whole = {"settings": text, "sha256": storage.checksum(text, file.arrays)}
    file.arrays["model.weights"][3, 4] = value
    save_file(file.arrays, path, metadata=whole)
    assert "is damaged" in refused(path)


@few
@given(data=st.data())
def test_a_file_that_lost_bytes_or_holds_others_is_refused(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    fitted("bias").save(path)
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, 1200))
    how = data.draw(st.sampled_from(["cut", "changed", "filled", "longer"]))
    if how == "cut":
        path.write_bytes(whole[:place])
    elif how == "longer":
        path.write_bytes(whole + b"\0")
    else:
        width = 1 if how == "changed" else min(16, len(whole) - place)
        other = bytes(255 - byte for byte in whole[place : place + width])
        path.write_bytes(whole[:place] + other + whole[place + width :])
    refused(path)


def header_of(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"not a model",
        np.random.default_rng(0).bytes(5_000),
        header_of(b""),
        header_of(b"{}"),
        header_of(b"[]"),
        header_of(b'{"__metadata__": {}}'),
        header_of(b'{"__metadata__": {"settings": ""}}'),
        header_of(b'{"__metadata__": {"settings": "[]"}}'),
        header_of(b'{"__metadata__": {"settings": "3"}}'),
        header_of(b'{"__metadata__": {"settings": "{}"}}'),
        header_of(b'{"__metadata__": {"settings": "' + b"[" * 100_000 + b'"}}'),
        header_of(b'{"__metadata__": {"settings": "{\\"format_version\\": 3}"}}'),
        header_of(b'{"__metadata__": {"settings": "{\\"format_version\\": [3]}"}}'),
        header_of(b'{"__metadata__": {"settings": "{\\"format_version\\": true}"}}'),
        struct.pack("<Q", 2**63) + b"{}",
    ],
    ids=range(17),
)
def test_files_of_other_programs_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    refused(path)


def test_weights_of_another_program_and_other_number_formats_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file as save_torch

    path = tmp_path / "model.safetensors"
    for metadata in (None, {}, {"format": "pt"}):
        save_torch({"layer.weight": torch.zeros(3, 3)}, path, metadata=metadata)
        assert "is not a model of this study" in refused(path)
    save_torch({"layer.weight": torch.zeros(3, dtype=torch.bfloat16)}, path, {"settings": '{"format_version": 3}'})
    refused(path)


def test_a_folder_and_a_name_that_cannot_be_one_are_refused(tmp_path: Path) -> None:
    refused(tmp_path)
    refused(tmp_path / "gone")
    refused(tmp_path / "gone" / ("x" * 300))


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"weights": torch.zeros(3)}, path)
    monkeypatch.setattr("pickle.Unpickler", lambda *_: pytest.fail("unpickled"))
    monkeypatch.setattr("pickle.load", lambda *_: pytest.fail("unpickled"))
    refused(path)
    file = File.of("bias", path)
    file.header["model"] = "__import__('os').system('true')"
    file.write(path)
    refused(path)


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    """As on a full disk: writing beyond this fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("older")
    with files_of_at_most(10_000), pytest.raises(StudyError) as error:
        fitted("ease").save(path)
    assert f"cannot be saved as {path}" in str(error.value) and "\n" not in str(error.value)
    assert path.read_text() == "older" and list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_found_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    beneath_a_file = [tmp_path / "file/model", tmp_path / "file/deep/model"]
    for path in [tmp_path, *beneath_a_file, Path("/proc/model"), tmp_path / "a\0b", tmp_path / ("x" * 230)]:
        with pytest.raises(StudyError, match="cannot be saved as"):
            storage.check_place(path)
        with pytest.raises(StudyError, match="cannot be saved as"):
            fitted("bias").save(path)
    with files_of_at_most(1_000), pytest.raises(StudyError, match="cannot be saved as"):
        storage.check_place(tmp_path / "model")
    storage.check_place(tmp_path / "new/folder/model")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, int, True),
        (3, float, True),
        (3.0, int, False),
        (True, int, False),
        (True, float, False),
        (True, bool, True),
        (float("inf"), float, False),
        (None, int | None, True),
        ("3", int | None, False),
        ([1, 2], tuple[int, ...], True),
        ((1, "2"), tuple[int, ...], False),
        ({"a": {"b": [1]}}, dict[str, dict[str, Any]], True),
        ({"a": 3}, dict[str, dict[str, Any]], False),
        ([], dict, False),
    ],
)
def test_values_from_json_fit_the_type_that_is_declared(value: object, hint: Any, expected: bool) -> None:
    assert storage.fits(value, hint) == expected


@pytest.mark.parametrize("name", MODELS)
def test_every_models_own_settings_fit_what_it_declares(name: str) -> None:
    settings_of = json.loads(json.dumps(MODELS[name]().hyperparameters))
    storage.check_hyperparameters(MODELS[name], settings_of)
