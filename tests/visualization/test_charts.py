import numpy as np
import pytest

from maskrcnn_jax.visualization.charts import bar_chart, histogram_chart, page


def bar_lengths(chart: np.ndarray) -> list[int]:
    """Returns the lengths of the bars of the first colour, from above."""
    painted = np.all(chart == (60, 110, 180), -1).sum(1)
    starts = np.flatnonzero((painted[1:] > 0) & (painted[:-1] == 0)) + 1
    return painted[starts].tolist()


def test_bars_are_as_long_as_their_values_say():
    chart = bar_chart("title", ["a", "b", "c"], {"": [10, 0, 5]})
    longest, half = bar_lengths(chart)
    assert longest == 380
    assert half == 190


def test_several_series_share_a_scale():
    chart = bar_chart("title", ["a"], {"one": [10], "two": [40]})
    orange = np.all(chart == (230, 140, 40), -1).sum(1).max()
    assert bar_lengths(chart[30:]) == [95]
    assert orange == 380


def test_nothing_to_show_is_no_error():
    assert bar_lengths(bar_chart("title", ["a"], {"": [0]})) == []
    assert bar_chart("title", [], {"": []}).shape[1] == 640


def test_long_names_end_before_the_bars():
    chart = bar_chart("title", ["a very long name of a class, and more of it"], {"": [0]})
    assert (chart[34:, 14:160] < 255).any()
    assert (chart[34:, 160:170] == 255).all()


def test_rows_and_series_must_fit():
    with pytest.raises(ValueError, match="for 2 rows"):
        bar_chart("title", ["a", "b"], {"": [1]})


def test_a_page_holds_all_charts():
    charts = [np.full((height, 40, 3), value, np.uint8) for value, height in enumerate((9, 5, 3))]
    joined = page(charts)
    assert joined.shape == (9, 80, 3)
    assert [int((joined == value).all(-1).sum()) for value in range(3)] == [360, 200, 120]
    assert (joined[8:, 40:] == 255).all()


def test_a_histogram_shows_where_values_are():
    values = np.array([0.0] * 90 + [1.0] * 45 + [np.nan, np.inf])
    painted = np.all(histogram_chart("title", values) == (60, 110, 180), -1).sum(0)
    assert painted.max() == painted[12] == 2 * painted[306]  # the ends of the range
    assert not painted[20:300].any()
    assert histogram_chart("title", np.array([np.nan])).shape == (150, 320, 3)
