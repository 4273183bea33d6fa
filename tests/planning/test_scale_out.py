"""Estimated throughput: numbers by hand, which resource limits first, errors, and estimates against the compiler."""

import csv
import dataclasses
import json
import math

import pytest

from aim.planning.preflight import stored_bytes_per_window
from aim.planning.scale_out import scale_out, verdict
from aim.planning.scaled_step import COMPILED, STRONG, WEAK, ScaleOutError, curve, read
from tests import tiny

MB = 1_000_000
# 4 chips with 8 windows each. A window takes 50 GFLOPs and 10 MB of traffic, the state 3 MB; gradients are 1 MB.
REPORT = {
  "topology": "v5e:2x2",
  "device": {
    "kind": "TPU v5e",
    "flops": 1e12,
    "memory": 1e9,
    "bandwidth": 1e9,
    "network": 1e8,
    "box": None,
    "beyond": 1e6,
  },
  "devices": 4,
  "hosts": 1,
  "mesh": {"data": 4, "fsdp": 1, "tensor": 1, "slices": 1},
  "config": {"name": "model", "batch_size": 32, "accumulate": 1, "total_steps": 1000},
  "parameters": 250_000,
  "memory": {"parameters": MB, "optimizer": 2 * MB, "average": 0},
  "largest_batch": {"windows": 70},
  "flops_per_window": {"with_recomputation": 5e10},
  "bytes_moved": 86 * MB,
  "collectives": [{"kind": "all-reduce", "count": 1, "bytes": MB, "devices": 4, "stride": 1, "seconds": 0.015}],
  "roofline": {"compute": 0.4, "memory": 0.086, "network": 0.015},
  "data": {"windows_per_second_and_host": 80.0, "bytes_per_second_and_host": 80 * 4 * 26 * 1440},
}


def written(folder, **changes):
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "preflight.json").write_text(json.dumps(REPORT | changes))
  return folder


def step_of(tmp_path, **changes):
  return read(written(tmp_path, **changes) / "preflight.json")


def test_what_was_compiled_is_on_its_own_curves(tmp_path):
  step = step_of(tmp_path)
  compiled = step.as_compiled(1e9)
  for scaling in (STRONG, WEAK):
    (estimate,) = curve(step, scaling, [4], 1e9)
    assert estimate.terms == pytest.approx(compiled.terms)
    assert estimate.windows_per_second == pytest.approx(32 / 0.4)
    assert dataclasses.replace(estimate, scaling=COMPILED, efficiency=0) == dataclasses.replace(compiled, efficiency=0)


def test_strong_scaling_by_hand(tmp_path):
  """With twice the chips the work per chip halves, the update keeps its 6 MB, and the ring of 1 MB takes longer."""
  points = curve(step_of(tmp_path), STRONG, [2, 4, 8, 32, 64], 1e9)
  assert [(p.chips, p.batch, p.accumulate) for p in points] == [(2, 32, 1), (4, 32, 1), (8, 32, 1), (32, 32, 1)]
  by_chips = {p.chips: p for p in points}
  assert by_chips[8].compute == pytest.approx(4 * 0.05)
  assert by_chips[8].memory == pytest.approx((6 + 4 * 10) / 1000)
  assert by_chips[8].network == pytest.approx(2 * 7 / 8 / 100)
  assert [p.hosts for p in points] == [1, 1, 2, 8]
  assert by_chips[2].efficiency == 1 and by_chips[32].efficiency == pytest.approx(1)
  assert by_chips[8].days == pytest.approx(1000 * 0.2 / 86400)
  assert by_chips[8].chip_hours == pytest.approx(1000 * 0.2 / 3600 * 8)
  assert by_chips[8].windows_per_second_and_host == pytest.approx(32 / 0.2 / 2)
  assert by_chips[8].stored_bytes_per_second_and_host == pytest.approx(80 * 68_225)


def test_weak_scaling_by_hand(tmp_path):
  points = curve(step_of(tmp_path), WEAK, [8, 16], 1e9)
  assert [(p.chips, p.batch, p.windows_a_chip) for p in points] == [(8, 64, 8), (16, 128, 8)]
  assert [p.seconds for p in points] == pytest.approx([0.4, 0.4])
  assert [p.windows_per_second for p in points] == pytest.approx([160, 320])
  assert points[0].days == pytest.approx(500 * 0.4 / 86400), "as many windows in total, in half the steps"


def test_what_does_not_fit_at_once_is_accumulated(tmp_path):
  """17 windows per chip fit (70 on 4), so 32 take two microbatches, each of which exchanges its gradient."""
  two, four = curve(step_of(tmp_path), STRONG, [1, 4], 1e9)
  assert (two.windows_a_chip, two.accumulate, four.accumulate) == (32, 2, 1)
  big = step_of(tmp_path, config=REPORT["config"] | {"batch_size": 64}, largest_batch={"windows": 40})
  two, four = curve(big, STRONG, [2, 4], 1e9)
  assert (two.accumulate, four.accumulate) == (4, 2)
  assert two.network == pytest.approx(4 * 2 * 1 / 2 / 100)


def test_fsdp_groups_stay_together(tmp_path):
  """Gathers inside groups of 2 cost the same everywhere; sums over groups span more of them."""
  gather = {"kind": "all-gather", "count": 3, "bytes": MB, "devices": 2, "stride": 1, "seconds": 0}
  reduce = {"kind": "all-reduce", "count": 1, "bytes": MB, "devices": 2, "stride": 2, "seconds": 0}
  mesh = REPORT["mesh"] | {"data": 2, "fsdp": 2}
  points = curve(step_of(tmp_path, mesh=mesh, collectives=[gather, reduce]), STRONG, [1, 2, 8], 1e9)
  assert [p.chips for p in points] == [2, 8]
  inside = 3 * 0.5 / 100
  assert [p.network for p in points] == pytest.approx([inside, inside + 2 * 3 / 4 / 100])


def test_a_preflight_with_a_dataset_knows_what_its_days_take_in_files(tmp_path):
  data = REPORT["data"] | {"stored_bytes_per_window": 1000.0}
  (point,) = curve(step_of(tmp_path, data=data), STRONG, [4], 1e9)
  assert point.stored_bytes_per_second_and_host == pytest.approx(point.windows_per_second_and_host * 1000)
  dataset = tiny.dataset(tmp_path)
  days = dataset.num_days("pretrain")
  files = [path.stat().st_size for path in dataset.path.iterdir() if "pretrain.array_record" in path.name]
  assert stored_bytes_per_window(dataset) == sum(files) / days > 24


def test_beyond_the_largest_slice_is_another_network(tmp_path):
  (inside, beyond) = curve(step_of(tmp_path), WEAK, [256, 512], 1e9)
  assert inside.network == pytest.approx(2 * 255 / 256 / 100)
  assert beyond.network == pytest.approx(2 * 255 / 256 / 100 + 2 * MB / 256 / 2 / 1e6)


@pytest.mark.parametrize(
  ("changes", "loader", "line"),
  [
    ({}, 1e9, "arithmetic limits everywhere; on 32 chips the others need, of its time: the network 38.7 %"),
    ({}, 100.0, "arithmetic limits everywhere"),
    ({}, 70.0, "the hosts' loaders limits everywhere"),
    ({"bytes_moved": 806 * MB}, 1e9, "memory bandwidth limits everywhere"),
    (
      {"collectives": [REPORT["collectives"][0] | {"bytes": 10 * MB}]},
      1e9,
      "arithmetic limits, then the network from 16 chips",
    ),
  ],
)
def test_what_limits_first(changes, loader, line, tmp_path):
  points = curve(step_of(tmp_path, **changes), STRONG, [4, 8, 16, 32], loader)
  assert verdict(points).startswith(line)


def test_a_slow_loader_sets_the_pace(tmp_path):
  (point,) = curve(step_of(tmp_path), STRONG, [4], 20.0)
  assert (point.limit, point.windows_per_second, point.windows_per_second_and_host) == ("loader", 20.0, 20.0)


def test_files_and_comparison(tmp_path, capsys):
  first = written(tmp_path / "a")
  second = written(
    tmp_path / "b",
    devices=8,
    hosts=2,
    mesh=REPORT["mesh"] | {"data": 8},
    roofline={"compute": 0.2, "memory": 0.06, "network": 0.02},
  )
  points = scale_out(first, [second], [4, 8, 16], 2000.0)
  out = capsys.readouterr().out
  assert (
    "8 chips with 32 windows: 200 ms per step; estimated to compiled 1.00 (compute 1.00, memory 0.77, network 0.88"
    in out
  )
  lines = list(csv.DictReader((first / "scale_out.csv").open()))
  assert len(lines) == len(points) == 3 + 3 + 2
  assert [line["scaling"] for line in lines] == [STRONG] * 3 + [WEAK] * 3 + [COMPILED] * 2
  assert (first / "scale_out.png").read_bytes().startswith(b"\x89PNG") and (
    first / "scale_out.png"
  ).stat().st_size > 10_000
  assert math.isnan(points[-1].efficiency) and lines[-1]["efficiency"] == ""


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"roofline": None}, "the step does not fit v5e:2x2"),
    ({"mesh": REPORT["mesh"] | {"tensor": 2}}, "expected tensor 1 and slices 1"),
    ({"memory": {}}, "not a preflight.json of this version: KeyError: 'parameters'"),
  ],
)
def test_what_cannot_be_scaled_is_one_line(changes, message, tmp_path):
  with pytest.raises(ScaleOutError, match=message) as error:
    step_of(tmp_path, **changes)
  assert str(tmp_path / "preflight.json") in str(error.value) and "\n" not in str(error.value)


def test_the_command(tmp_path):
  written(tmp_path)
  ended = tiny.run("--mode=scale_out", f"--workdir={tmp_path}", "--chips=4,8")
  assert ended.code == 0, ended.err
  assert "strong scaling: " in ended.out and (tmp_path / "scale_out.png").exists()
  for flags, message in [
    (["--chips=4,many"], "--chips=4,many: expected numbers, as in 8,16,32"),
    (["--chips=0"], "expected numbers above 0"),
    (["--chips=5"], "--chips=5: 32 windows of model 0.25M do not divide among any of these"),
    ([f"--workdirs={tmp_path}/no"], f"{tmp_path}/no/preflight.json: no such file"),
  ]:
    ended = tiny.run("--mode=scale_out", f"--workdir={tmp_path}", *flags)
    assert (ended.code, ended.err.count("\n")) == (2, 1) and message in ended.err
