"""The promises that every recommender keeps, checked over every registered model that has the traits a check needs."""

from __future__ import annotations

import json
import typing
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from boards import (
    NEW_ITEM,
    NEW_USER,
    PLAYERS,
    SIZE,
    answering,
    board,
    board_of,
    build,
    fitted,
    forbidden_values,
    has_device,
    is_neural,
    other_value,
    rows_of,
)
from forms import OTHERS, PARTS, dimensions_of_unions, looks, small

from recsys_core import train as loop
from recsys_core.errors import StudyError
from recsys_core.evaluate import RankingTask, rank
from recsys_core.interactions import Features, Interactions
from recsys_core.judging import judge
from recsys_core.models import MODELS, Recommender, settings, storage
from recsys_core.models.baselines import Popularity
from recsys_core.models.traits import Traits
from recsys_core.statistics import bootstrap_interval

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine shows no CUDA device to torch")
Case = tuple[str, str]


def having(*traits: str, neural: bool = False) -> pytest.MarkDecorator:
    """Run a check over all models with these traits ("not …": without), on the CPU and, where they can use one, on CUDA."""
    cases: list[Any] = []
    for name, kind in MODELS.items():
        wanted = all(getattr(kind.traits, t.removeprefix("not ")) != t.startswith("not ") for t in traits)
        if not wanted or (neural and not is_neural(name)):
            continue
        cases.append(pytest.param((name, "cpu"), id=name))
        if has_device(name):
            cases.append(pytest.param((name, "cuda"), id=f"{name}-cuda", marks=[pytest.mark.gpu, CUDA]))
    return pytest.mark.parametrize("case", cases)


def short(name: str) -> dict[str, Any]:
    """Enough training to see a difference."""
    return {"epochs": 2} if is_neural(name) else {}


def new_users(*items: list[int], stars: float = 5.0) -> Interactions:
    """A history of users 0, 1, … who are known by these items alone."""
    users = np.repeat(np.arange(len(items)), [len(mine) for mine in items])
    codes = np.concatenate([np.array(mine, np.int64) for mine in items])
    return rows_of(users, codes, np.full(len(codes), stars), len(items), SIZE + 1)


def some_features(value: float) -> Features:
    return Features(np.array([[value, 1.0]], np.float32), ("age", "gender"))


@having("personalised", "not predicts_ratings")
def test_ranking_models_complete_the_checkerboard(case: Case) -> None:
    train, scores = board_of(case[0]), fitted(*case).score(PLAYERS).cpu().clone()
    mine = train.users < SIZE
    scores[train.users[mine], train.items[mine]] = -torch.inf
    assert (scores.argmax(dim=1) == PLAYERS).float().mean() >= 0.9


@having("personalised", "predicts_ratings")
def test_rating_models_complete_the_checkerboard(case: Case) -> None:
    assert (fitted(*case).predict(PLAYERS, PLAYERS) > 3).all()


@having()
def test_scores_are_finite_and_cover_the_catalogue_even_its_unseen_item(case: Case) -> None:
    scores = fitted(*case).score(PLAYERS)
    assert scores.shape == (SIZE, SIZE + 1)
    assert scores.isfinite().all()
    assert not scores[:, NEW_ITEM].isnan().any()


@having()
def test_scores_and_ratings_carry_no_gradient(case: Case) -> None:
    assert not fitted(*case).score(PLAYERS).requires_grad


@having()
def test_changing_the_returned_scores_does_not_change_the_model(case: Case) -> None:
    model = fitted(*case)
    before = model.score(PLAYERS[:1]).clone()
    model.score(PLAYERS[:1])[0, 3] = -torch.inf
    assert torch.equal(model.score(PLAYERS[:1]), before)


@having()
def test_a_batch_of_one_equals_a_batch_of_many(case: Case) -> None:
    model = fitted(*case)
    one_by_one = torch.cat([model.score(PLAYERS[[user]]) for user in range(SIZE)])
    torch.testing.assert_close(one_by_one, model.score(PLAYERS), rtol=1e-5, atol=1e-5)


@having()
def test_the_order_and_repetition_of_users_is_the_order_of_scores(case: Case) -> None:
    model, order = fitted(*case), torch.tensor([7, 49, 0, 7, 21])
    torch.testing.assert_close(model.score(PLAYERS[order]), model.score(PLAYERS)[order], rtol=1e-5, atol=1e-5)


@having()
def test_the_same_seed_gives_the_same_bits(case: Case) -> None:
    again = build(*case).fit(board_of(case[0]), seed=0).score(PLAYERS)
    if case[1] == "cpu":
        assert torch.equal(again, fitted(*case).score(PLAYERS))
    else:  # sums on a GPU may be added in another order
        torch.testing.assert_close(again, fitted(*case).score(PLAYERS), rtol=0.05, atol=0.05)


@having()
def test_another_seed_gives_other_bits_only_to_stochastic_models(case: Case) -> None:
    same = torch.equal(fitted(*case, seed=1).score(PLAYERS), fitted(*case).score(PLAYERS))
    assert same != MODELS[case[0]].traits.stochastic


@having()
def test_fitting_leaves_the_global_random_state_alone(case: Case) -> None:
    before, numpy_before = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    build(*case, **short(case[0])).fit(board_of(case[0]))
    assert torch.equal(torch.get_rng_state(), before)
    assert str(np.random.get_state()) == numpy_before  # noqa: NPY002


@having()
def test_fit_returns_the_model_itself(case: Case) -> None:
    model = build(*case, **short(case[0]))
    assert model.fit(board_of(case[0])) is model


@having()
def test_an_empty_training_set_is_refused(case: Case) -> None:
    with pytest.raises(StudyError, match="training set has no rows"):
        build(*case).fit(board_of(case[0]).take(np.arange(0)))


@having()
@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True, "0", None])
def test_a_seed_that_is_no_whole_number_from_0_is_refused(case: Case, seed: Any) -> None:
    with pytest.raises(StudyError, match=f"seed={seed!r}: it must be a whole number from 0"):
        build(*case).fit(board_of(case[0]), seed=seed)


def may_be_infinite(name: str) -> set[str]:
    return {key for key, said in settings.settings_of(MODELS[name]).items() if said.may_be_infinite is True}


@having()
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_hyperparameter_that_is_not_finite_is_refused_by_name(case: Case, value: float) -> None:
    numbers = [name for name, default in build(*case).hyperparameters.items() if isinstance(default, float)]
    for name in set(numbers) - set(may_be_infinite(case[0]) if value > 0 else ()):
        changes: dict[str, Any] = {name: value}
        with pytest.raises(StudyError, match=name):
            build(*case, **changes)


@having()
def test_rows_outside_the_catalogue_are_refused_and_named(case: Case) -> None:
    rows = {name: getattr(board_of(case[0]), name).copy() for name in ("users", "items", "ratings", "times")}
    rows["items"][17] = SIZE + 1
    with pytest.raises(StudyError, match=r"Row 17: item code 51 is outside .*allowed: 0 to 50"):
        Interactions(**rows, n_users=SIZE + 1, n_items=SIZE + 1)
    for outside in (-1, SIZE + 1):
        with pytest.raises(StudyError, match=f"User code {outside} is outside the catalogue: allowed are 0 to 50"):
            fitted(*case).score(torch.tensor([0, outside]))


@having()
def test_a_user_without_training_rows_needs_a_history(case: Case) -> None:
    for ask in (fitted(*case).score, fitted(*case).fallback):
        with pytest.raises(StudyError, match=f"User code {NEW_USER} has no training rows: pass history="):
            ask(torch.tensor([0, NEW_USER]))


@having("not predicts_ratings")
def test_the_fallback_of_ranking_models_is_popularity_and_is_marked(case: Case) -> None:
    model, nobody = fitted(*case), torch.tensor([0])
    train, history = board_of(case[0]), new_users([])
    assert model.fallback(nobody, history).tolist() == [True]
    assert model.fallback(PLAYERS).any().item() is False
    everybody = model.traits.folds_in and not model.traits.personalised  # and then also those without a history
    expected = model.score(PLAYERS[:1])[0].tolist() if everybody else train.item_counts.tolist()
    assert model.score(nobody, history)[0].cpu().tolist() == expected


@having("predicts_ratings")
def test_the_fallback_of_rating_models_is_finite_and_is_marked(case: Case) -> None:
    model, nobody = fitted(*case), torch.zeros(3, dtype=torch.int64)
    items, history = torch.tensor([4, 9, NEW_ITEM]), new_users([])
    assert model.fallback(nobody, history).all()
    assert model.score(nobody, history).isfinite().all()
    stars = model.predict(nobody, items, history)
    assert ((stars >= 1) & (stars <= 5)).all()


@having("uses_features")
def test_a_user_without_history_is_answered_from_the_features(case: Case) -> None:
    model, nobody, history = fitted(*case), torch.tensor([0]), new_users([])
    young, old = (model.score(nobody, history, some_features(age)) for age in (18, 70))
    assert not model.fallback(nobody, history, some_features(18)).any()
    assert young.isfinite().all()
    assert not torch.equal(young, old)
    assert not torch.equal(young.cpu(), model.score(nobody, history).cpu())
    if model.traits.predicts_ratings:
        items = torch.tensor([4])
        assert model.predict(nobody, items, history, some_features(18)) != model.predict(
            nobody, items, history, some_features(70)
        )


@having("uses_features")
def test_features_with_other_columns_are_refused(case: Case) -> None:
    features = Features(np.zeros((1, 1), np.float32), ("height",))
    with pytest.raises(StudyError, match=r"columns of training, \('age', 'gender'\); got \('height',\)"):
        fitted(*case).score(torch.tensor([0]), new_users([]), features)


@having("not uses_features")
def test_features_given_to_a_model_that_cannot_use_them_change_nothing(case: Case) -> None:
    model, nobody, history = fitted(*case), torch.tensor([0]), new_users([])
    assert model.fallback(nobody, history, some_features(18)).all()
    assert torch.equal(model.score(nobody, history, some_features(18)), model.score(nobody, history))


@having("folds_in")
def test_a_history_equal_to_the_training_rows_changes_nothing(case: Case) -> None:
    model, train = fitted(*case), board_of(case[0])
    torch.testing.assert_close(model.score(PLAYERS, train), model.score(PLAYERS), rtol=1e-4, atol=1e-4)
    if model.traits.predicts_ratings:
        theirs, ours = model.predict(PLAYERS, PLAYERS, train), model.predict(PLAYERS, PLAYERS)
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


@having("folds_in", "personalised")
def test_another_history_gives_other_scores(case: Case) -> None:
    model, asked = fitted(*case), torch.tensor([0, 1])
    scores = model.score(asked, new_users([0, 2, 4], [1, 3, 5]))
    even, odd = scores.softmax(dim=1) if model.traits.sequential else scores  # what comes next, not what is liked
    assert even[6:SIZE:2].mean() > even[7:SIZE:2].mean()
    assert odd[6:SIZE:2].mean() < odd[7:SIZE:2].mean()


@having("folds_in", "predicts_ratings")
def test_ratings_in_the_history_move_the_predicted_ratings(case: Case) -> None:
    asked, items = torch.tensor([0]), torch.tensor([6])
    severe, kind = (fitted(*case).predict(asked, items, new_users([0, 2, 4], stars=stars)) for stars in (1.0, 5.0))
    assert severe < kind


@having("folds_in")
def test_users_with_and_without_history_are_answered_in_one_batch(case: Case) -> None:
    model, history = fitted(*case), new_users([0, 2, 4], [])
    both = model.score(torch.tensor([0, 1]), history)
    torch.testing.assert_close(both[:1], model.score(torch.tensor([0]), history), rtol=1e-5, atol=1e-5)
    assert torch.equal(both[1:], model.score(torch.tensor([1]), history))
    assert model.fallback(torch.tensor([0, 1]), history).tolist() == [False, True]


@having("not folds_in")
def test_a_history_is_refused_by_models_that_cannot_fold_in(case: Case) -> None:
    with pytest.raises(StudyError, match="cannot use the history of a user it was not trained on"):
        fitted(*case).score(torch.tensor([0]), new_users([0, 2]))


@having()
def test_a_history_over_another_catalogue_is_refused(case: Case) -> None:
    nothing = rows_of(np.arange(0), np.arange(0), np.arange(0), 1, 7)
    with pytest.raises(StudyError, match="catalogue has 7 items, the model's 51"):
        fitted(*case).score(torch.tensor([0]), nothing)


@having("sequential", neural=True)
def test_what_comes_later_does_not_change_earlier_outputs(case: Case) -> None:
    """The module of a sequential model maps (B, T) items to (B, T, …) outputs."""
    model: Any = fitted(*case)
    items = torch.arange(10, device=model.device_)[None]
    changed = items.clone()
    changed[0, 7:] = 30
    outputs, others = model.module_(items), model.module_(changed)
    torch.testing.assert_close(outputs[:, :7], others[:, :7])
    assert not torch.equal(outputs[:, 7:], others[:, 7:])


@having("predicts_ratings")
def test_ratings_are_stars_within_the_scale(case: Case) -> None:
    users, items = (torch.as_tensor(codes) for codes in np.divmod(np.arange(SIZE * (SIZE + 1)), SIZE + 1))
    stars = fitted(*case).predict(users, items)
    assert stars.shape == (len(users),)
    assert stars.min() >= 1
    assert stars.max() <= 5


def first_and_last_times(name: str) -> list[torch.Tensor]:
    """When each player gave their first and their last rating."""
    train = board_of(name)
    mine = [train.times[train.users == player] for player in range(SIZE)]
    return [torch.tensor([times[end] for times in mine]) for end in (0, -1)]


@having("predicts_ratings", "uses_times")
def test_ratings_depend_on_when_they_are_given(case: Case) -> None:
    model = fitted(*case)
    early, late = (model.predict(PLAYERS, PLAYERS, times=times) for times in first_and_last_times(case[0]))
    assert not torch.equal(early, late)
    assert not torch.equal(early, model.predict(PLAYERS, PLAYERS))
    assert torch.equal(model.predict(PLAYERS[:9], PLAYERS[:9], times=first_and_last_times(case[0])[0][:9]), early[:9])


@having("predicts_ratings", "not uses_times")
def test_times_given_to_a_model_that_cannot_use_them_change_nothing(case: Case) -> None:
    model = fitted(*case)
    for times in first_and_last_times(case[0]):
        assert torch.equal(model.predict(PLAYERS, PLAYERS, times=times), model.predict(PLAYERS, PLAYERS))


@having("predicts_ratings")
def test_at_a_time_far_from_training_ratings_are_stars_and_new_users_get_the_fallback(case: Case) -> None:
    model, later = fitted(*case), torch.full((SIZE,), 10**9)
    stars = model.predict(PLAYERS, PLAYERS, times=later)
    assert ((stars >= 1) & (stars <= 5)).all()
    nobody = torch.zeros(3, dtype=torch.int64), torch.tensor([4, 9, NEW_ITEM]), new_users([])
    assert torch.equal(model.predict(*nobody, times=later[:3]), model.predict(*nobody))


@having("not predicts_ratings")
def test_models_that_only_rank_refuse_to_predict_stars(case: Case) -> None:
    with pytest.raises(StudyError, match="ranks items and does not predict ratings"):
        fitted(*case).predict(PLAYERS, PLAYERS)


@cache
def rewired() -> tuple[Interactions, Interactions]:
    """Train and test rows in which users and items are paired at random, with a long tail of items, and attributes are, too."""
    generator = np.random.default_rng(5)
    n_users, n_items = 200, 50
    weights = 1 / np.arange(3, n_items + 3)
    items = np.stack([generator.choice(n_items, 12, replace=False, p=weights / weights.sum()) for _ in range(n_users)])
    users = np.repeat(np.arange(n_users), items.shape[1])
    rows = rows_of(users, items.ravel(), generator.integers(1, 6, len(users)), n_users, n_items)
    people = np.column_stack([generator.integers(18, 70, n_users), generator.integers(0, 2, n_users)])
    films = np.column_stack([generator.integers(0, 2, (n_items, 3)), generator.normal(size=(n_items, 2))])
    columns = ("genre_a", "genre_b", "genre_c", "content_0", "content_1")
    rows = replace(rows, user_features=Features(people.astype(np.float32), ("age", "gender")))
    rows = replace(rows, item_features=Features(films.astype(np.float32), columns))
    held_out = np.tile(np.arange(items.shape[1]) >= 10, n_users)
    return rows.take(~held_out), rows.take(held_out)


def ndcg_per_user(model: Recommender) -> np.ndarray:
    train, test = rewired()
    return rank(model.fit(train, seed=0), RankingTask(train, test, cutoffs=(10,))).users["ndcg@10"].to_numpy()


def leaks(model: Recommender) -> bool:
    """Whether a model does better on random pairs than popularity's bootstrap interval allows."""
    return bool(ndcg_per_user(model).mean() > bootstrap_interval(ndcg_per_user(Popularity()))[1])


@having("personalised")
def test_nothing_is_learnt_from_pairs_rewired_at_random(case: Case) -> None:
    assert not leaks(build(*case, **short(case[0])))


@dataclass(kw_only=True)
class Peeping(Popularity):
    """Knows the test rows, and so must be found out."""

    traits: ClassVar[Traits] = Traits(form="counts")

    def _scores(self, users: torch.Tensor, history: Interactions) -> torch.Tensor:
        return torch.as_tensor(rewired()[1].binary[users.numpy()].toarray())


def test_a_model_that_knows_the_test_rows_is_found_out() -> None:
    assert leaks(Peeping())


@pytest.mark.parametrize(
    ("name", "given"), [(name, {}) for name in MODELS] + OTHERS, ids=[*MODELS, *(f"{n}-{s}" for n, s in OTHERS)]
)
def test_a_model_has_the_form_that_it_states(name: str, given: dict[str, Any]) -> None:
    model = small(name, given, rewired()[0])
    assert looks(model, model.own_traits.form)


@pytest.mark.parametrize("name", MODELS)
def test_the_form_that_a_class_states_is_that_of_its_default_settings(name: str) -> None:
    assert MODELS[name]().own_traits.form == MODELS[name].traits.form


# what each of these is not: of two products each is of the second order, and a user's own scores are theirs alone
WRONG = {
    "ease": ("counts", "bilinear", "non-linear"),
    "implicit_item_knn": ("counts", "bilinear", "non-linear"),
    "bpr_mf": ("counts", "linear", "non-linear"),
    "ials": ("counts", "non-linear"),
    "lightgcn": ("counts", "linear", "non-linear"),
    "neumf": ("counts", "linear", "bilinear"),
    "mult_vae": ("counts", "linear", "bilinear"),
    "recvae": ("counts", "linear", "bilinear"),
    "segment_popularity": ("non-linear",),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_form_that_a_model_does_not_have_is_seen(name: str) -> None:
    model = small(name, {}, rewired()[0])
    assert not [form for form in WRONG[name] if looks(model, form)]


def test_layers_are_seen_without_their_non_linear_functions() -> None:
    """The number of dimensions alone tells hidden layers from none, too: of what a history gives, and of pairs."""
    train = rewired()[0]
    for name, layers in (("mult_vae", "hidden_layers"), ("mult_dae", "hidden_layers")):
        spanned = [dimensions_of_unions(small(name, {layers: given}, train)) for given in ((), (20,))]
        assert spanned[0] <= len(PARTS) + 1 < spanned[1]


@having()
def test_a_loaded_model_scores_to_the_same_bits(case: Case, tmp_path: Path) -> None:
    model = fitted(*case)
    model.save(tmp_path / "model")
    for kind in (type(model), Recommender):
        loaded = kind.load(tmp_path / "model")
        assert type(loaded) is type(model)
        assert loaded.hyperparameters == model.hyperparameters
        assert loaded.n_parameters == model.n_parameters
        assert model.n_parameters is None or model.n_parameters > 0
        assert torch.equal(loaded.score(PLAYERS), model.score(PLAYERS))
        cold = torch.tensor([0]), new_users([])
        assert torch.equal(loaded.score(*cold), model.score(*cold))
        if model.traits.uses_features:
            told = *cold, some_features(30)
            assert torch.equal(loaded.score(*told), model.score(*told))
        if model.traits.folds_in:
            known = torch.tensor([0]), new_users([0, 2])
            assert torch.equal(loaded.score(*known), model.score(*known))
        if model.traits.predicts_ratings:
            assert torch.equal(loaded.predict(PLAYERS, PLAYERS), model.predict(PLAYERS, PLAYERS))
            early = first_and_last_times(case[0])[0]
            assert torch.equal(
                loaded.predict(PLAYERS, PLAYERS, times=early), model.predict(PLAYERS, PLAYERS, times=early)
            )
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@having()
def test_a_model_of_another_class_is_refused(case: Case, tmp_path: Path) -> None:
    fitted(*case).save(tmp_path / "model")
    other = next(kind for kind in MODELS.values() if kind is not MODELS[case[0]])
    with pytest.raises(StudyError, match=f"holds a {MODELS[case[0]].__name__}, not a {other.__name__}"):
        other.load(tmp_path / "model")


@having()
def test_another_format_version_is_refused(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(storage, "FORMAT_VERSION", 0)
        fitted(*case).save(tmp_path / "model")
    with pytest.raises(StudyError, match=r"format version 0, this code reads \d+"):
        MODELS[case[0]].load(tmp_path / "model")


@pytest.mark.parametrize("content", ["missing", "text", "pickle", "safetensors"])
def test_a_missing_or_foreign_file_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    if content == "text":
        path.write_text("not a model")
    elif content == "pickle":
        torch.save({"weights": torch.zeros(3)}, path)
    elif content == "safetensors":
        from safetensors.torch import save_file

        save_file({"weights": torch.zeros(3)}, path, metadata={"settings": "not JSON"})
    with pytest.raises(StudyError, match="is not a model of this study"):
        Recommender.load(path)


@having()
def test_hyperparameters_are_json_friendly_keyword_arguments(case: Case) -> None:
    model, kind = build(*case), MODELS[case[0]]
    assert kind(**json.loads(json.dumps(model.hyperparameters))) == model
    with pytest.raises(TypeError):
        kind(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="speed"):
        kind(speed=3)  # type: ignore[call-arg]


@cache
def briefly_fitted(name: str) -> Recommender:
    return build(name, **short(name)).fit(uneven(name))


def uneven(name: str) -> Interactions:
    """The board without some cells, so that users and items differ in their number of rows."""
    train = board_of(name)
    return train.take((train.users * 7 + train.items * 3) % 11 > train.items % 5)


def kinds(hint: Any) -> set[Any]:
    """The plain types in a type hint: those of its parts, for `tuple[int, ...] | None` int and None's; a dictionary is one."""
    if typing.get_origin(hint) is dict:
        return {dict}
    parts = [part for part in typing.get_args(hint) if part is not ...]
    return set().union(*map(kinds, parts)) if parts else {hint}


@pytest.mark.parametrize("name", MODELS)
def test_every_number_states_a_bound_or_that_it_has_none_and_every_text_what_it_may_be(name: str) -> None:
    hints, known = typing.get_type_hints(MODELS[name]), settings.settings_of(MODELS[name])
    for key, said in known.items():
        stated = {bound for bound in ("least", "above", "among") if getattr(said, bound) is not settings.NOT_GIVEN}
        if kinds(hints[key]) & {int, float}:
            assert stated, f"{key}: state setting(…, least=…); least=-np.inf where it has none"
        if str in kinds(hints[key]) and key != "device":
            assert "among" in stated, f"{key}: state setting(…, among=…)"


@pytest.mark.parametrize(("name", "argument"), [(name, key) for name in MODELS for key in answering(name)])
def test_every_hyperparameter_changes_the_answer(name: str, argument: str) -> None:
    usual, value = briefly_fitted(name), other_value(name, argument)
    assert getattr(usual, argument) != value
    changed = build(name, **{**short(name), argument: value}).fit(uneven(name))
    assert not torch.equal(changed.score(PLAYERS), usual.score(PLAYERS))


def diagonal() -> Interactions:
    """What the board leaves out."""
    return rows_of(np.arange(SIZE), np.arange(SIZE), np.full(SIZE, 5), SIZE + 1, SIZE + 1)


@having(neural=True)
def test_fewer_validation_users_give_another_validation_value(case: Case) -> None:
    few, all_of_them = (
        build(*case, epochs=1, validation_users=n_users).fit(board_of(case[0]), diagonal(), judge=judge).history_
        for n_users in (3, SIZE)
    )
    assert few is not None and all_of_them is not None
    assert few.epochs[0]["train_loss"] == pytest.approx(all_of_them.epochs[0]["train_loss"], rel=1e-5)
    assert few.epochs[0] != all_of_them.epochs[0]


@having(neural=True)
def test_patience_stops_training_and_the_best_epoch_is_kept(case: Case) -> None:
    name, device = case
    patient, hasty = (
        build(name, device, epochs=12, learning_rate=0.05, patience=patience).fit(
            board_of(name), diagonal(), judge=judge
        )
        for patience in (None, 1)
    )
    assert patient.history_ is not None and hasty.history_ is not None
    assert len(patient.history_.epochs) == 12
    stopped = len(hasty.history_.epochs)
    assert stopped < 12
    assert hasty.history_.best_epoch == stopped - 1
    assert patient.history_.epochs[:stopped] == hasty.history_.epochs or device == "cuda"


@having(neural=True)
def test_the_device_is_obeyed_and_an_unknown_one_refused(case: Case) -> None:
    name, device = case
    model: Any = fitted(name, device)
    assert model.device_.type == device
    with pytest.raises(StudyError, match="device='abacus' is unknown: use auto, cpu or cuda"):
        build(name, "abacus").fit(board_of(name))


@having(neural=True)
@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("epochs", 0, "epochs=0: it must be at least 1"),
        ("learning_rate", -0.1, "learning_rate=-0.1: it must be above 0"),
        ("weight_decay", -1.0, "weight_decay=-1.0: it must be at least 0"),
        ("patience", 0, "patience=0: it must be at least 1"),
        ("precision", "half", "precision='half' is not known: allowed are auto, float32, bfloat16"),
        ("batch_size", 0, "batch_size=0: it must be at least 1"),
        ("validation_users", 0, "validation_users=0: it must be at least 1"),
    ],
)
def test_settings_that_cannot_train_are_refused(case: Case, argument: str, value: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        build(*case, **{argument: value}).fit(board_of(case[0]))


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("bias", "item_regularisation", -1.0),
        ("bias", "user_regularisation", -1.0),
        ("bias", "n_passes", 0),
        ("ease", "regularisation", 0.0),
        ("embedding_recommender", "embedding_dim", 0),
        ("embedding_recommender", "hidden_dim", 0),
        ("two_tower_regressor", "head_layers", (8, 0)),
        ("recommender_net", "dropout", 1.0),
        ("fm", "embedding_std", -0.1),
        ("deepfm", "layers", (0,)),
        ("deepfm", "dropout", -0.1),
        ("dlrm", "bottom_layers", (0,)),
        ("dlrm", "top_layers", (0,)),
        ("ncf", "n_negatives", 0),
        ("ncf", "layers", ()),
        ("ncf", "layers", (8, 0)),
        ("ncf", "activation", "gelu"),
        ("ncf", "embedding_std", -0.1),
        ("neumf", "gmf_dim", 0),
        ("neumf", "pretrain_epochs", -1),
        ("neumf", "fusion_rate", 0.0),
        ("neumf", "layers", ()),
        ("diverse_ncf", "diversity", -0.1),
        ("svd", "embedding_dim", 0),
        ("svd", "regularisation", -1.0),
        ("svd", "embedding_std", -0.1),
        ("als", "embedding_dim", 0),
        ("als", "n_iterations", 0),
        ("als", "regularisation", 0.0),
        ("item_knn", "n_neighbours", 0),
        ("item_knn", "shrinkage", -1.0),
        ("user_knn", "min_support", 0),
        ("item_autorec", "hidden_dim", 0),
        ("user_autorec", "regularisation", -1.0),
        ("bayesian_fm", "embedding_dim", -1),
        ("bayesian_fm", "features", ("zodiac",)),
        ("bayesian_fm", "n_burn_in", -1),
        ("bayesian_fm", "n_samples", 0),
        ("bayesian_fm", "session_s", 0),
        ("joint_embedding", "joint_dim", 0),
        ("joint_embedding", "gamma", -1.0),
        ("joint_embedding", "dropout", 1.0),
        ("dssm", "temperature", 0.0),
        ("dssm", "id_dropout", 1.0),
        ("dssm", "id_dropout", -0.1),
        ("dssm", "log_q", -1.0),
        ("weighted_hybrid", "members", {"ease": {}}),
        ("weighted_hybrid", "weights", (0.5,)),
        ("weighted_hybrid", "weights", (0.5, -0.5)),
        ("segment_popularity", "n_segments", 0),
        ("segment_popularity", "shrinkage", -1.0),
        ("demographic_popularity", "age_limits", (40, 20)),
        ("demographic_popularity", "shrinkage", -1.0),
        ("mult_vae", "hidden_layers", (8, 0)),
        ("mult_vae", "latent_dim", 0),
        ("mult_vae", "beta", -0.1),
        ("mult_vae", "n_annealing_steps", 0),
        ("mult_dae", "dropout", 1.0),
        ("mult_dae", "likelihood", "poisson"),
        ("mult_dae", "positive_weight", -1.0),
        ("ials", "embedding_dim", 0),
        ("ials", "regularisation", 0.0),
        ("ials", "unobserved_weight", -0.1),
        ("ials", "n_iterations", 0),
        ("ials", "n_conjugate_steps", -1),
        ("bpr_mf", "n_negatives", 0),
        ("log_loss_mf", "regularisation", -1.0),
        ("implicit_item_knn", "n_neighbours", 0),
        ("implicit_user_knn", "shrinkage", -1.0),
        ("weighted_ranking_hybrid", "members", {"ease": {}}),
        ("weighted_ranking_hybrid", "members", {"ease": {}, "crystal_ball": {}}),
        ("weighted_ranking_hybrid", "weight", 1.5),
        ("switching_hybrid", "least_known", -1),
    ],
)
def test_model_settings_out_of_range_are_refused_and_named(name: str, argument: str, value: Any) -> None:
    with pytest.raises(StudyError, match=f"^{argument}="):
        build(name, **{argument: value})


@pytest.mark.parametrize("name", MODELS)
def test_values_outside_the_bounds_that_a_setting_states_are_refused_and_named(name: str) -> None:
    for argument, value in forbidden_values(name):
        with pytest.raises(StudyError, match=f"^{argument}="):
            build(name, **{argument: value})


@having(neural=True)
def test_an_interrupted_fit_continues_to_the_same_bits(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, device = case
    train, validation, checkpoint = board_of(name), diagonal(), tmp_path / "checkpoint"
    whole = build(name, device, epochs=4).fit(train, validation, judge=judge, seed=2)
    epochs_left = [1, 1, 0]

    def interrupted(*arguments: Any, epoch: Any = loop.train_epoch) -> float:
        if not epochs_left.pop(0):
            raise KeyboardInterrupt
        return epoch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(name, device, epochs=4).fit(train, validation, judge=judge, seed=2, checkpoint=checkpoint)
    assert checkpoint.exists()
    resumed = build(name, device, epochs=4).fit(train, validation, judge=judge, seed=2, checkpoint=checkpoint)
    assert not checkpoint.exists()
    if device == "cpu":
        assert resumed.history_ == whole.history_
        assert torch.equal(resumed.score(PLAYERS), whole.score(PLAYERS))


@having(neural=True)
def test_a_checkpoint_of_another_seed_is_refused(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tmp_path / "checkpoint"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # as if killed before the last step
        build(*case, epochs=1).fit(board_of(case[0]), seed=2, checkpoint=checkpoint)
    with pytest.raises(StudyError, match=r"seed 2.*seed 3.*delete it or name another file"):
        build(*case, epochs=1).fit(board_of(case[0]), seed=3, checkpoint=checkpoint)


@having(neural=True)
def test_a_single_row_left_over_does_not_break_training(case: Case) -> None:
    train = board_of(case[0]).take(np.arange(101))
    assert build(*case, epochs=1, batch_size=50).fit(train).score(PLAYERS[:2]).isfinite().all()


@having()
def test_two_fits_of_copies_do_not_share_what_they_learnt(case: Case) -> None:
    first = fitted(*case)
    before = first.score(PLAYERS).clone()
    second = copy(first).fit(uneven(case[0]), seed=1)
    assert not torch.equal(second.score(PLAYERS), before)
    assert torch.equal(first.score(PLAYERS), before)


def test_the_boards_are_what_they_say() -> None:
    assert len(board(False)) == SIZE * (SIZE // 2 - 1)
    assert len(board(True)) == SIZE * (SIZE - 1)
