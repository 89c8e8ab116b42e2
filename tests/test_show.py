"""What a chapter shows as its model's source is the source that runs; a user's list is what the model ranks."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers import Table, invented_movielens, random_interactions

from pipeline.chapters.diagrams import network
from pipeline.chapters.one_user import introduced, shown, side_by_side, usual_user, watched
from pipeline.chapters.show import show
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.losses import binary_cross_entropy
from recsys_core.models.linear import EASE
from recsys_core.protocols import make_split


def test_the_source_shown_is_that_of_the_file_without_its_indentation() -> None:
    text = show(EASE._fit).data
    assert text.startswith(
        "`recsys_core/models/linear.py`, `EASE._fit`\n\n```python\ndef _fit(self, task: FitTask) -> None:\n"
    )
    assert "\n    weights = inverse / -np.diag(inverse)  # column j by -P_jj\n" in text


def test_several_sources_are_shown_one_below_the_other() -> None:
    text = show(EASE._scores, binary_cross_entropy).data
    assert text.count("```python") == 2 and "`recsys_core/losses.py`, `binary_cross_entropy`" in text


@pytest.mark.parametrize("thing", [np.dot, torch.add, len])
def test_what_is_not_of_the_project_is_refused(thing: object) -> None:
    with pytest.raises(StudyError, match="has no source in this project"):
        show(thing)  # type: ignore[arg-type]


def test_a_users_list_leaves_out_what_they_know_and_marks_what_they_will_watch() -> None:
    data = invented_movielens()
    rows, vocabulary = encode(data)
    split = make_split("random-80-10-10", rows)
    user = usual_user(split, least_test_rows=1)
    later = split.test.items[split.test.users == user]
    table = np.zeros((rows.n_users, rows.n_items))
    table[user, later[0]] = 2
    table[user, split.refit.items[split.refit.users == user]] = 3
    found = shown(Table(table=table).fit(split.refit), split, user, data, vocabulary)
    assert found["film"].iloc[0] == str(vocabulary.item_ids[later[0]])
    assert found["will watch"].iloc[0] == "yes"
    assert not set(found["film"]) & set(watched(split.refit, user, data, vocabulary, 100)["film"])


def test_what_a_user_watched_is_in_the_order_of_their_stars() -> None:
    data = invented_movielens()
    rows, vocabulary = encode(data)
    stars = watched(rows, 3, data, vocabulary, 5)["stars"].tolist()
    assert stars == sorted(rows.ratings[rows.users == 3].tolist(), reverse=True)[:5]


def test_lists_side_by_side_are_those_of_each_model_with_a_mark_behind_what_they_will_watch() -> None:
    data = invented_movielens()
    rows, vocabulary = encode(data)
    split = make_split("random-80-10-10", rows)
    user = usual_user(split, least_test_rows=1)
    later = split.test.items[split.test.users == user]
    table = np.zeros((rows.n_users, rows.n_items))
    table[user, later[0]] = 2
    models = {"EASE": EASE().fit(split.refit), "Oracle": Table(table=table).fit(split.refit)}
    lists = side_by_side(models, split, user, data, vocabulary, n=5)
    alone = shown(models["EASE"], split, user, data, vocabulary, n=5)
    assert list(lists) == list(models)
    assert lists["Oracle"].iloc[0] == f"{vocabulary.item_ids[later[0]]} ✓"
    assert lists["EASE"].str.removesuffix(" ✓").tolist() == alone["film"].tolist()
    assert lists["EASE"].str.endswith(" ✓").tolist() == alone["will watch"].eq("yes").tolist()


def test_a_user_is_introduced_with_what_models_read_and_every_film_of_the_test_rows() -> None:
    data = invented_movielens()
    rows, vocabulary = encode(data)
    split = make_split("random-80-10-10", rows)
    user = usual_user(split, least_test_rows=1)
    hidden = split.test.items[split.test.users == user]
    text = introduced(split, user, data, vocabulary)
    assert text.startswith(f"User {vocabulary.user_ids[user]}: {(split.refit.users == user).sum()} ratings")
    assert f"{len(hidden)} in the test rows" in text
    assert all(f"*{item}*" in text for item in vocabulary.item_ids[hidden])


def test_nobody_to_show_a_list_to_is_one_sentence() -> None:
    split = make_split("user-holdout", random_interactions(0, 40, 30, 600), fold_in=0.0)
    with pytest.raises(StudyError, match="nobody to show a list to"):
        usual_user(split)


def test_a_network_is_drawn_with_a_box_for_each_layer_and_arrows_between_levels() -> None:
    figure = network([["user", "film"], ["p_u (8)", "q_i (8)"], ["16"], ["logit"]], "A tower")
    axes = figure.axes[0]
    assert len(axes.patches) == 6
    assert len(axes.texts) == 6 + 2 + 2 + 1
    plt.close(figure)
