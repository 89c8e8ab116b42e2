"""What the searches found, read from the store."""

from pathlib import Path

from pipeline.chapters.tuned import tuning_gains


def test_the_gain_of_a_search_is_read_from_its_first_and_best_trial(tmp_path: Path) -> None:
    folder = tmp_path / "reports/stored/tuning"
    folder.mkdir(parents=True)
    trials = '[{"number": 0, "value": 0.2, "settings": {}}, {"number": 1, "value": 0.3, "settings": {}}]'
    (folder / "ease.json").write_text(f'{{"metric": "ndcg@10", "value": 0.3, "trials": {trials}}}')
    (folder / "svd.json").write_text(f'{{"metric": "rmse", "value": 0.9, "trials": {trials}}}')
    gains = tuning_gains(tmp_path)
    assert gains.index.tolist() == ["ease"]
    assert gains.loc["ease"].tolist() == [2, 0.2, 0.3]
