"""The rows that probes read: which there are, and what becomes of them when days lose values."""

from __future__ import annotations

import numpy as np

from aim.evaluation.probing.label_tasks import usable_tasks
from aim.evaluation.probing.probe_inputs import read_inputs
from experiments import default
from tests.evaluation.test_leaks import built, cohort
from tests.inference.test_pretrained import pretrained


def config():
  probe = default.get_config().probe
  probe.window_minutes = 120
  return probe


def test_changed_days_keep_their_rows(tmp_path):
  arrays = cohort(24)
  minutes = np.full((48, 24, 1), -1, np.int8)
  minutes[:, 8:20, 0] = arrays["values"][:, 8:20, 1] > 60
  arrays |= {"minute_labels": minutes, "minute_label_names": np.array(["busy"])}
  dataset = built(tmp_path, "labelled", arrays)
  model = pretrained(dataset.schema)
  tasks, _ = usable_tasks(config(), dataset)
  read = lambda change: read_inputs(config(), model, dataset, "eval", tasks, baselines=False, change=change)

  def empty_the_second_day(values):
    return np.where(np.arange(len(values))[:, None, None] == 1, np.nan, values)

  intact, changed = read(None), read(empty_the_second_day)
  assert set(intact) == {"age", "sex", "ill", "busy"}
  for name, rows in intact.items():
    np.testing.assert_array_equal(rows.truth, changed[name].truth)
    lost = np.isnan(changed[name].inputs["embedding"]).all(1)
    second_day = (changed[name].participant == rows.participant[0]) & (changed[name].day == 1)
    assert 0 < lost.sum() < len(lost)
    np.testing.assert_array_equal(lost, second_day)
    np.testing.assert_allclose(changed[name].inputs["embedding"][~lost], rows.inputs["embedding"][~lost], atol=1e-5)
