"""The embedding map: groups of labels and the plane that is drawn."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aim.report import embedding


@given(
  st.one_of(
    st.lists(st.one_of(st.none(), st.floats(-1e3, 1e3)), min_size=1, max_size=30),
    st.lists(st.one_of(st.none(), st.booleans()), min_size=1, max_size=30),
    st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=1, max_size=30),
  )
)
def test_every_value_has_a_colour_group(values):
  groups, ordered = embedding.grouped(values)
  assert len(groups) == len(values) and set(groups) <= set(ordered) and len(ordered) == len(set(ordered)) <= 9
  assert [group == embedding.UNKNOWN for group in groups] == [value is None for value in values]


def test_the_map_shows_the_directions_of_largest_variance():
  rng = np.random.default_rng(0)
  far = rng.normal(size=(40, 1)) * 10
  places, explained = embedding.project(
    (far @ rng.normal(size=(1, 6)) + rng.normal(size=(40, 6)) * 0.1).astype(np.float32)
  )
  assert abs(np.corrcoef(places[:, 0], far[:, 0])[0, 1]) > 0.999 and explained[0] > 0.99
