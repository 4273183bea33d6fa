"""The forms side by side: the table, the figure, and what --forms may be."""

import pytest

from aim.planning import forms
from data_pipelines.errors import UserError
from tests import tiny

LINE = {
  "compute": 0.09,
  "memory": 0.12,
  "network": 0.001,
  "seconds_per_step": 0.12,
  "limit": "memory",
  "mfu_ceiling_executed": 0.5,
  "mfu_ceiling_useful": 0.3,
}
SPEED = {"executed_to_textbook": 0.62, "bytes_moved": 98.3e9, "roofline": LINE, "collectives": []}
PARTS = {"useful": 230e9, "missing": 120e9, "padding": 30e9, "blocks": 40e9}
PACKED = forms.row(PARTS, SPEED, "912 slots", 9_300_000_000)
TOO_LARGE = forms.row(PARTS, SPEED | {"bytes_moved": None, "roofline": None}, "1872 slots", 20_000_000_000)


def test_the_table_has_a_line_per_form():
  head, names, packed, textbook = forms.text({"packed": PACKED, "textbook": TOO_LARGE}).splitlines()
  assert "per window" in head and names.split()[:2] == ["form", "useful"]
  assert " ".join(packed.split()) == "packed 230 120 30 40 420 0.62 9.3 GB 98.3 GB 120 ms memory 30 %"
  assert " ".join(textbook.split()) == "textbook 230 120 30 40 420 0.62 20 GB - - - -"


def test_the_figure_leaves_out_what_does_not_fit(tmp_path):
  forms.draw_forms({"textbook": TOO_LARGE, "packed": PACKED}, "a model", tmp_path / "forms.png")
  assert (tmp_path / "forms.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
  ("names", "method", "message"),
  [
    (["packed", "padded"], "mae", "--forms=packed,padded: unknown form 'padded'; expected some of textbook, trimmed"),
    (["packed"], "dino", "--forms=packed: config.method is 'dino', expected 'mae', which has forms"),
  ],
)
def test_unknown_forms_are_one_line(names, method, message):
  with pytest.raises(UserError, match=message) as error:
    forms.check_forms(names, method)
  assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_command(tmp_path):
  """On two fake devices; all forms have the same useful part, and packing has the least padding."""
  data = tiny.dataset(tmp_path)
  ended = tiny.run(
    *("--mode=preflight", f"--config={tiny.CONFIG}", *tiny.overrides(batch_size=8), *tiny.on(data)),
    *("--topology=local", "--forms=textbook,trimmed,packed", f"--workdir={tmp_path}/run"),
    devices=2,
  )
  assert ended.code == 0, ended.err
  assert "GFLOPs per window, and" in ended.out and (tmp_path / "run/forms.png").exists()
