"""preflight.json as text for a terminal."""

from __future__ import annotations

from typing import Any

from data_pipelines.text_files import counted, plain_number

# The CUDA compiler leaves cuDNN's calls as they are, with a workspace of 0 bytes; cuDNN plans them on the GPU.
CUDNN_WORKSPACE = "; without what cuDNN's attention needs for itself, which only a GPU shows"


def text(report: dict[str, Any]) -> str:
  """The report of a preflight as lines of "name  value"."""
  device, memory, line, work = report["device"], report["memory"], report["roofline"], report["flops_per_window"]
  source = "data sheet" if device["sheet"] else "measured here"
  rows = [
    ("devices", f"{report['devices']} x {device['kind']} on {report['hosts']} host(s), mesh {report['mesh']}"),
    (
      "per device",
      f"{plain_number(device['flops'] / 1e12)} TFLOP/s, "
      f"{_size(device['memory'])}, {_size(device['bandwidth'])}/s ({source})",
    ),
    ("parameters", f"{report['parameters']:,}"),
    ("buffers", f"typical: {report['sizes']['typical']}; largest: {report['sizes']['largest']}"),
  ]
  names = ("parameters", "optimizer", "average", "tokens", "read_ahead", "gradients_and_activations")
  rows += [(f"  {name.replace('_', ' ')}", _size(memory[name])) for name in names]
  fits = "fits" if memory["fits"] else "DOES NOT FIT"
  held, share = f"{_size(memory['total'])} of {_size(memory['capacity'])}", 100 * memory["headroom"]
  unseen = CUDNN_WORKSPACE if any(name.startswith("__cudnn") for name in report["kernels"] or ()) else ""
  rows.append(("memory", f"{held}: {fits}, headroom {share:.0f} %{unseen}"))
  rows.append(("largest batch", _batch_text(report["largest_batch"])))
  parts = [f"{name.replace('_', ' ')} {flops / 1e9:.4g}" for name, flops in work.items() if flops]
  ratio = f"; executed is {report['executed_to_textbook']:.2f} x textbook" if "executed_to_textbook" in report else ""
  rows.append(("GFLOPs per window", ", ".join(parts) + ratio))
  if line is None:
    rows.append(("time", "unknown: the step does not compile for this memory"))
  else:
    rows += _time_rows(report, line)
  if measured := report.get("measured"):
    stated, ratio = measured["stated_seconds_per_step"], measured["measured_to_stated"]
    rows.append(("measured", f"{measured['seconds_per_step']:.3g} s per step: {ratio:.2f} x the stated {stated:.3g} s"))
  rows.append(("took", f"{report['seconds']:.0f} s"))
  width = max(len(name) for name, _ in rows)
  return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def _batch_text(report: dict[str, Any]) -> str:
  if report["windows"] is None:
    return report["how"]
  more = ""
  if "fits_with_accumulate" in report:
    accumulate = report["fits_with_accumulate"]
    more = (
      f"; the batch fits with --config.optimizer.accumulate={accumulate}"
      if accumulate
      else "; no value of accumulate helps"
    )
  return f"{counted(report['windows'], 'window')} ({report['how']}){more}"


def _time_rows(report: dict[str, Any], line: dict[str, Any]) -> list[tuple[str, str]]:
  ms = lambda seconds: f"{plain_number(1000 * seconds)} ms"
  how = "" if report["bytes_counted_by"] == "compiler" else ", counted from the program's text"
  rows = [("memory traffic", f"{plain_number(report['bytes_moved'] / 1e9)} GB per step and device{how}")]
  if report["kernels"]:
    kernels = ", ".join(f"{count} x {name}" for name, count in report["kernels"].items())
    rows.append(("kernels", f"{kernels} per step"))
  by_kind: dict[tuple[str, int], list[dict]] = {}
  for exchange in report["collectives"]:
    by_kind.setdefault((exchange["kind"], exchange["devices"]), []).append(exchange)
  for (kind, size), exchanges in by_kind.items():
    count = sum(exchange["count"] for exchange in exchanges)
    sent = sum(exchange["count"] * exchange["bytes"] for exchange in exchanges)
    took = ms(sum(exchange["seconds"] for exchange in exchanges))
    rows.append(
      (
        f"  {kind}",
        f"{count} per step among {counted(size, 'device')}, {plain_number(sent / 1e6, 4)} MB in total, {took}",
      )
    )
  useful = f", useful {100 * line['mfu_ceiling_useful']:.0f} %" if line["mfu_ceiling_useful"] else ""
  rows += [
    (
      "step, at least",
      f"{ms(line['seconds_per_step'])}: compute {ms(line['compute'])}, memory {ms(line['memory'])}, network "
      f"{ms(line['network'])}; {line['limit']} limits",
    ),
    ("MFU, at most", f"executed {100 * line['mfu_ceiling_executed']:.0f} %{useful}"),
    (
      "speed, at most",
      f"{line['windows_per_second']:,.0f} windows/s; {counted(report['config']['total_steps'], 'step')} in "
      f"{plain_number(line['days'])} days, {line['chip_hours']:,.0f} chip-hours",
    ),
    (
      "data per host",
      f"{report['data']['windows_per_second_and_host']:,.0f} windows/s, "
      f"{report['data']['bytes_per_second_and_host'] / 1e6:,.0f} MB/s",
    ),
  ]
  return rows


def _size(size: float) -> str:
  return f"{plain_number(size / 1e9)} GB" if size >= 1e8 else f"{plain_number(size / 1e6)} MB"
