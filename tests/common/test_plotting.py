"""Legends stay inside their figures."""

import pytest
from matplotlib.lines import Line2D

from aim.common.plotting import legend_above, new_figure


@pytest.mark.parametrize(("width", "rows"), [(3.0, 4), (6.0, 2), (12.0, 1)])
def test_a_legend_has_as_many_columns_as_fit(width, rows):
  figure = new_figure(width, 3.0)
  panel = figure.subplots()
  legend_above(figure, [Line2D([], [], label=f"a model with a name, {i}") for i in range(4)])
  [legend] = figure.legends
  figure.canvas.draw()
  assert len({round(text.get_window_extent().y0) for text in legend.get_texts()}) == rows
  assert legend.get_window_extent().x0 >= 0 and legend.get_window_extent().x1 <= figure.bbox.width
  assert panel.get_window_extent().height > 0.7 * 3.0 * figure.dpi, "the legend took the panel's room"
