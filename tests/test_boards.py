"""Boards of the rows of several chapters, against values computed by hand."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pipeline.chapters import plots
from pipeline.chapters.boards import Rows, curves, group_of
from pipeline.chapters.comparisons import BETTER
from pipeline.chapters.notebook import Notebook
from recsys_core.errors import StudyError

Frames = tuple[pd.DataFrame, pd.DataFrame]
SAVED: dict[str, Figure] = {}


def save(figure: Figure, name: str) -> Figure:
    return SAVED.setdefault(name, figure)


def ranked(model: str, value: float, settings: str = "tuned", family: str = "linear", **more: str) -> Frames:
    """Two seeds, twenty users around `value`."""
    labels = {"protocol": "random-80-10-10", "variant": None, "dataset": "ml-100k"} | more
    labels |= {"model": model, "settings": settings}
    rows = {
        "seed": [0, 1],
        "metric": "ndcg@10",
        "value": value,
        "parameters": 7,
        "family": family,
        "form": "linear",
        "role": "",
    }
    users = {"user": np.arange(20), "ndcg@10": value + np.linspace(-0.01, 0.01, 20)}
    return pd.DataFrame(rows).assign(**labels), pd.DataFrame(users).assign(**labels)


def rated(model: str, error: float, settings: str = "tuned", n_folds: int = 2) -> Frames:
    """Folds of three users each, everyone off by `error` stars in both of their rows."""
    folds = [f"fold={fold}" for fold in range(1, n_folds + 1)]
    labels = {"protocol": "rating-5fold", "dataset": "ml-100k", "model": model, "settings": settings}
    rows = [(fold, metric, error) for fold in folds for metric in ("rmse", "mae")]
    results = pd.DataFrame(rows, columns=["variant", "metric", "value"]).assign(parameters=7, family="counts", **labels)
    users = pd.DataFrame({"user": np.tile(np.arange(3), n_folds), "variant": np.repeat(folds, 3)})
    return results, users.assign(squared_error=2 * error**2, n_rows=2.0, **labels)


def chapter(*frames: Frames) -> Frames:
    results, users = (pd.concat(parts, ignore_index=True) for parts in zip(*frames))
    return results, users


def rows(**chapters: Frames) -> Rows:
    return Rows.of(save, chapters)


def test_a_board_has_a_line_for_each_model_and_settings_with_its_family_the_best_first() -> None:
    both = rows(
        a=chapter(ranked("EASE", 0.2, "stated"), ranked("EASE", 0.3)), b=ranked("NCF", 0.25, family="perceptron")
    )
    board = both.board("ndcg@10")
    assert board[["model", "settings", "family"]].to_numpy().tolist() == [
        ["EASE", "tuned", "linear"],
        ["NCF", "tuned", "perceptron"],
        ["EASE", "stated", "linear"],
    ]
    assert board["ndcg@10"].tolist() == pytest.approx([0.3, 0.25, 0.2])
    assert both.only(settings="tuned").board("ndcg@10")["ndcg@10"].tolist() == pytest.approx([0.3, 0.25])


def test_what_two_chapters_have_run_counts_in_the_first() -> None:
    both = rows(a=ranked("EASE", 0.3), b=chapter(ranked("EASE", 0.4), ranked("BPR", 0.1)))
    assert both.board("ndcg@10")["ndcg@10"].tolist() == pytest.approx([0.3, 0.1])
    assert len(both.users) == 40


def test_a_board_holds_the_first_protocol_that_measured_its_metric_or_the_one_named() -> None:
    both = rows(a=chapter(rated("SVD", 0.5), ranked("EASE", 0.3), ranked("EASE", 0.1, protocol="loo-full")))
    assert both.board("ndcg@10")["protocol"].tolist() == ["random-80-10-10"]
    assert both.board("ndcg@10", protocol="loo-full")["ndcg@10"].tolist() == pytest.approx([0.1])
    nothing = both.board("ndcg@10", protocol="temporal")
    assert nothing.empty and set(nothing) == set(both.board("ndcg@10"))


def test_metrics_after_the_first_few_have_no_interval() -> None:
    both = rows(a=ranked("EASE", 0.3))
    assert "ndcg@10 low" in both.board("ndcg@10", n_intervals=1)
    assert "ndcg@10 low" not in both.board("ndcg@10", n_intervals=0)


def test_rows_of_models_of_a_data_set_and_with_another_name() -> None:
    both = rows(a=chapter(ranked("EASE", 0.3), ranked("BPR", 0.1), ranked("EASE", 0.9, dataset="ml-1m")))
    assert both.only(models=["EASE"], dataset="ml-100k").board("ndcg@10")["ndcg@10"].tolist() == pytest.approx([0.3])
    assert set(both.renamed({"BPR": "BPR-MF"}).users["model"]) == {"EASE", "BPR-MF"}


def test_runs_marked_as_variants_can_be_left_out_with_their_users() -> None:
    results, users = ranked("NCF, 6 layers", 0.2)
    both = rows(a=chapter((results.assign(role="variant"), users), ranked("NCF", 0.3)))
    shown = both.without_variants()
    assert set(shown.results["model"]) == set(shown.users["model"]) == {"NCF"}


def test_errors_have_means_over_folds_and_an_interval_over_users() -> None:
    board = rows(a=chapter(rated("Bias", 1.0, "stated"), rated("SVD", 0.5))).rating_board().set_index("model")
    line = board.loc["SVD", ["rmse", "mae", "rmse sd", "rmse low", "rmse high"]]
    assert line.tolist() == pytest.approx([0.5, 0.5, 0, 0.5, 0.5])
    assert board["parameters"].tolist() == [7, 7] and board["family"].tolist() == ["counts", "counts"]
    assert np.isnan(board.loc["Bias", "p"]) and 0 <= board.loc["SVD", "p"] <= 1


def test_stated_and_tuned_settings_are_two_lines_and_fewer_or_thinned_folds_are_none() -> None:
    thinned = tuple(frame.assign(variant="fold=1, share=0.1") for frame in rated("FM", 0.7))
    both = chapter(rated("SVD", 0.9, "stated"), rated("SVD", 0.8), rated("ALS", 0.8, n_folds=1), thinned)  # type: ignore
    assert rows(a=both).rating_board()["model"].tolist() == ["SVD", "SVD (stated)"]
    nothing = rows(a=ranked("EASE", 0.3)).rating_board()
    assert nothing.empty and set(nothing) == set(rows(a=both).rating_board())


def test_models_are_compared_under_the_protocol_of_the_metric_with_tuned_settings() -> None:
    both = rows(a=chapter(ranked("EASE", 0.3), ranked("EASE", 0.1, "stated"), ranked("BPR", 0.2), rated("EASE", 0.5)))
    line = both.compare("ndcg@10", [("EASE", "BPR")]).line("EASE", "BPR")
    assert line["difference"] == pytest.approx(0.1) and line["verdict"] == BETTER
    assert both.compare("rmse", [("EASE", "SVD")], only_present=True).table().empty


def test_a_figure_says_who_has_the_best_value_and_is_saved_under_its_metric() -> None:
    figure = rows(a=chapter(ranked("EASE", 0.3), ranked("BPR", 0.2, family="factorisation"))).figure("ndcg@10")
    assert SAVED["ndcg"] is figure
    plt.close(figure)
    axes = figure.axes[0]
    assert axes.get_title(loc="left") + axes.get_title() == "Highest NDCG@10: EASE, 0.300"
    assert axes.get_xlabel() == "NDCG@10, random-80-10-10, ml-100k (95 % interval over users)"
    assert [line.get_color() for line in axes.lines[::2]] == [plots.FAMILIES["linear"], plots.FAMILIES["factorisation"]]


def test_curves_of_one_protocol_are_drawn_with_the_best_in_the_title() -> None:
    def curve(*values: float) -> pd.DataFrame:
        return pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "ndcg@10": values})

    histories = {("Autoencoder", "random-80-10-10"): curve(0.1, 0.2), ("NCF", "random-80-10-10"): curve(0.3, 0.25)}
    histories |= {("NCF", "loo-full"): curve(0.8, 0.9)}
    figure = curves(histories)
    assert figure.get_suptitle() == "NCF is best on validation: 0.300 after epoch 1"
    assert len(figure.axes[1].lines) == 4  # a line and a dot each
    assert curves(histories, names={"Autoencoder": "product"}).axes[0].lines[0].get_label() == "product"
    with pytest.raises(StudyError, match="No model was validated under temporal"):
        curves(histories, protocol="temporal")
    plt.close("all")


def test_a_family_is_in_one_group_or_is_its_own() -> None:
    assert [group_of(family) for family in ("linear", "perceptron", "new")] == [
        "neighbours and linear",
        "neural",
        "new",
    ]


def test_every_earlier_chapter_that_saves_users_is_read_without_its_variants(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "notebooks:\n  00_data: {outputs: [results]}\n  10_a: {outputs: [results, users]}\n"
        "  11_b: {outputs: [results, users]}\n  45_c: {outputs: [results]}\n  46_d: {outputs: [results, users]}\nprofiles: {}\n"
    )
    marked, users = ranked("NCF, 6 layers", 0.2)
    for name, (results, values) in {
        "10_a": ranked("EASE", 0.3),
        "11_b": (marked.assign(role="variant"), users),
    }.items():
        each = Notebook(name, {}, "study", tmp_path / "reports", tmp_path / "figures", tmp_path)
        each.save_results(results)
        each.save_users(values)
    here = Notebook("45_c", {}, "study", tmp_path / "reports", tmp_path / "figures", tmp_path)
    assert here.read_every().board("ndcg@10")["model"].tolist() == ["EASE"]
    assert set(here.read_every(variants=True).users["model"]) == {"EASE", "NCF, 6 layers"}
