"""preflight.json for people."""

from __future__ import annotations

from typing import Any


def text(found: dict[str, Any]) -> str:
  """preflight.json for people."""
  device, memory, line, work = found["device"], found["memory"], found["roofline"], found["flops_per_window"]
  source = "data sheet" if device["sheet"] else "measured here"
  rows = [
    ("devices", f"{found['devices']} x {device['kind']} on {found['hosts']} host(s), mesh {found['mesh']}"),
    (
      "a device",
      f"{device['flops'] / 1e12:.3g} TFLOP/s, {_size(device['memory'])}, {_size(device['bandwidth'])}/s ({source})",
    ),
    ("parameters", f"{found['parameters']:,}"),
    ("buffers", f"typical: {found['sizes']['typical']}; largest: {found['sizes']['largest']}"),
  ]
  names = ("parameters", "optimizer", "average", "tokens", "read_ahead", "gradients_and_activations")
  rows += [(f"  {name.replace('_', ' ')}", _size(memory[name])) for name in names]
  fits = "fits" if memory["fits"] else "DOES NOT FIT"
  held, share = f"{_size(memory['total'])} of {_size(memory['capacity'])}", 100 * memory["headroom"]
  rows.append(("memory", f"{held}: {fits}, headroom {share:.0f} %"))
  rows.append(("largest batch", _batch_text(found["largest_batch"])))
  told = [f"{name.replace('_', ' ')} {x / 1e9:.4g}" for name, x in work.items() if x]
  share = (
    f"; executed are {found['executed_to_textbook']:.2f} of the textbook's" if "executed_to_textbook" in found else ""
  )
  rows.append(("GFLOPs a window", ", ".join(told) + share))
  if line is None:
    rows.append(("time", "not known: the step does not compile for this memory"))
  else:
    rows += _time_rows(found, line)
  if measured := found.get("measured"):
    stated, ratio = measured["stated_seconds_per_step"], measured["measured_to_stated"]
    rows.append(("measured", f"{measured['seconds_per_step']:.3g} s a step: {ratio:.2f} x the stated {stated:.3g} s"))
  rows.append(("took", f"{found['seconds']:.0f} s"))
  width = max(len(name) for name, _ in rows)
  return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def _batch_text(found: dict[str, Any]) -> str:
  if found["windows"] is None:
    return found["how"]
  more = ""
  if "fits_with_accumulate" in found:
    accumulate = found["fits_with_accumulate"]
    more = (
      f"; the batch fits with --config.optimizer.accumulate={accumulate}" if accumulate else "; no accumulate helps"
    )
  return f"{found['windows']:,} windows ({found['how']}){more}"


def _time_rows(found: dict[str, Any], line: dict[str, Any]) -> list[tuple[str, str]]:
  ms = lambda seconds: f"{1000 * seconds:.3g} ms"
  rows = [("memory traffic", f"{found['bytes_moved'] / 1e9:.3g} GB a step and device")]
  by_kind: dict[tuple[str, int], list[dict]] = {}
  for c in found["collectives"]:
    by_kind.setdefault((c["kind"], c["devices"]), []).append(c)
  for (kind, size), several in by_kind.items():
    count, sent = sum(c["count"] for c in several), sum(c["count"] * c["bytes"] for c in several)
    took = ms(sum(c["seconds"] for c in several))
    rows.append((f"  {kind}", f"{count} a step among {size} devices, {sent / 1e6:.4g} MB in all, {took}"))
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
      f"{line['windows_per_second']:,.0f} windows/s; {found['config']['total_steps']:,} steps in "
      f"{line['days']:.3g} days, {line['chip_hours']:,.0f} chip-hours",
    ),
    (
      "data, a host",
      f"{found['data']['windows_per_second_and_host']:,.0f} windows/s, "
      f"{found['data']['bytes_per_second_and_host'] / 1e6:,.0f} MB/s",
    ),
  ]
  return rows


def _size(size: float) -> str:
  return f"{size / 1e9:.3g} GB" if size >= 1e8 else f"{size / 1e6:.3g} MB"
