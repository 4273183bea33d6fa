"""Days per second of the service beside --mode=embed, and how long a single day waits for its answer.

  python -m benchmarks.serving [--layout=xs] [--days=64] [--repeats=5] [--output=benchmarks/results/serving.csv]

A model of random weights is served by `python -m aim.serve` in a process of its own, whose client is this process. It
also is the peer: it embeds the same days in batches of 32, as --mode=embed does once it has loaded and compiled. All
take turns. Bodies are made before the clock starts, because the days of a client would not be on this machine. CPU time
is that of the process that computes, and depends less on what else runs there.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import csv
import dataclasses
import datetime
import http.client
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import pyarrow as pa
from absl import app, flags

from aim.common import config_files
from aim.inference import loading
from aim.inference.pretrained import Pretrained
from aim.runtime import compile_cache
from aim.serve.messages import ARROW, JSON
from aim.training import checkpoint
from aim.training.trained import exported
from benchmarks import workers
from data_pipelines.schema import Schema
from data_pipelines.simulator import Simulation

LAYOUT = flags.DEFINE_string("layout", "xs", "Layout of the model and its days.")
DAYS = flags.DEFINE_integer("days", 64, "Days per round.", lower_bound=32)
REPEATS = flags.DEFINE_integer("repeats", 5, "Rounds.", lower_bound=3)
SINGLES = flags.DEFINE_integer("singles", 200, "Requests of a single day.", lower_bound=100)
OUTPUT = flags.DEFINE_string("output", "benchmarks/results/serving.csv", "Where to write the table.")
BATCH = 32  # days in a request, as in a batch of --mode=embed
CLIENTS = 2  # so that one request is read while another is computed
CROWD = 8  # clients with single days at a time


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  compile_cache.use()
  with tempfile.TemporaryDirectory() as folder:
    days = write_model(pathlib.Path(folder) / "model", LAYOUT.value, DAYS.value)
    with service(f"--checkpoint={folder}/model", "--functions=embed") as (port, process):
      rows = measure(loading.load(f"{folder}/model"), days, port, process)
  with open(OUTPUT.value, "w", newline="") as file:
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
  print(f"wrote {OUTPUT.value}")


def write_model(folder: pathlib.Path, layout: str, count: int) -> np.ndarray:
  """Exports a model of random weights, and returns days that it takes."""
  step, days, config = workers.make_step(layout, {"model.dtype": "float32"})
  source = Simulation(participants=1, days=1, seed=0).schema
  schema = Schema(source.minutes_per_step, source.channels[: days.shape[2]])
  scale = step.scale
  statistics_of = {"mean": scale.reference_mean, "std": scale.reference_std, "min": scale.low, "max": scale.high}
  metadata = {
    "format": 2,
    "step": 0,
    "config": config_files.to_dict(config),
    "schema": schema.to_dict(),
    "statistics": {name: values.tolist() for name, values in statistics_of.items()},
  }
  read = checkpoint.without_params(metadata, 0, layout)
  params = jax.jit(step.init)(jax.random.key(0))["params"]
  exported.write(dataclasses.replace(read, params=params), folder, "")
  return np.asarray(days[:count], np.float32)


@contextlib.contextmanager
def service(*arguments: str) -> Iterator[tuple[int, int]]:
  """A service in a process of its own; yields its port and its number."""
  command = [sys.executable, "-m", "aim.serve", "--port=0", *arguments]
  process = subprocess.Popen(command, cwd=workers.ROOT, stdout=subprocess.PIPE, text=True)
  try:
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.search(r":(\d+) \(", line)
    if match is None:
      raise app.UsageError("the service did not start")
    print(line.strip())
    yield int(match[1]), process.pid
  finally:
    process.terminate()
    process.wait(60)


def cpu_seconds(process: int) -> float:
  """CPU time that a process has used so far."""
  fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
  return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(model: Pretrained, days: np.ndarray, port: int, process: int) -> list[dict[str, Any]]:
  """Rows of the table."""
  parts = [days[start : start + BATCH] for start in range(0, len(days) - BATCH + 1, BATCH)]
  count = sum(map(len, parts))
  bodies = {ARROW: [arrow_body(model, part) for part in parts], JSON: [json_body(part) for part in parts]}
  peer = np.concatenate([model.embed(part) for part in parts])  # compiles
  answers = {kind: ask_all(port, kind, bodies[kind]) for kind in bodies}
  served = np.array([row for body in answers[JSON] for row in json.loads(body)["embeddings"]])
  difference = np.abs(served - peer).max() / np.abs(peer).max()
  rounds: dict[str, Callable[[], object]] = {
    "--mode=embed": lambda: [model.embed(part) for part in parts],
    "service, Arrow": lambda: ask_all(port, ARROW, bodies[ARROW]),
    "service, JSON": lambda: ask_all(port, JSON, bodies[JSON]),
  }
  seconds: dict[str, list[float]] = {name: [] for name in rounds}
  cpu = dict.fromkeys(rounds, 0.0)
  for turn in range(REPEATS.value):
    for name in (*rounds,) if turn % 2 == 0 else (*reversed(rounds),):
      computing = os.getpid() if name == "--mode=embed" else process
      began, used = time.perf_counter(), cpu_seconds(computing)
      rounds[name]()
      seconds[name].append(time.perf_counter() - began)
      cpu[name] += cpu_seconds(computing) - used
  rows = []
  peer_rate = count / statistics.median(seconds["--mode=embed"])
  for name, times in seconds.items():
    rate = count / statistics.median(times)
    # By round, because a machine that is shared changes from round to round.
    ratio = statistics.median(a / b for a, b in zip(seconds["--mode=embed"], times, strict=True))
    milliseconds = 1000 * cpu[name] / (count * len(times))
    print(
      f"{name}: {rate:.1f} days/s, {ratio:.2f} of --mode=embed (median over rounds); {milliseconds:.0f} ms CPU per day"
    )
    rows.append(row(model, name, len(times), days_per_second=rate, of_embed=ratio, cpu_ms_per_day=milliseconds))
  print(f"largest difference of an embedding {difference:.1e}; --mode=embed {peer_rate:.1f} days/s")
  single = [json_body(day[None]) for day in days]
  alone, served_alone = one_by_one(model, days, port, single)
  waited = {"single days, in this process": alone, "single days, 1 client": served_alone}
  waited[f"single days, {CROWD} clients"] = waits(port, single, SINGLES.value, CROWD)
  for name, times in waited.items():
    low, high = (float(np.quantile(times, q)) * 1000 for q in (0.5, 0.99))
    print(f"{name}: median {low:.0f} ms, p99 {high:.0f} ms")
    rows.append(row(model, name, len(times), median_ms=low, p99_ms=high))
  return rows


def row(model: Pretrained, name: str, repeats: int, **figures: float) -> dict[str, Any]:
  """A row of the table."""
  about = {"name": name, "layout": LAYOUT.value, "tokens": model.architecture.tokens, "repeats": repeats}
  empty = dict.fromkeys(("days_per_second", "of_embed", "cpu_ms_per_day", "median_ms", "p99_ms"), "")
  rounded = {key: float(f"{value:.4g}") for key, value in figures.items()}
  machine = {"cpu": workers.cpu_model(), "cores": workers.cores(), "load_5_min": f"{os.getloadavg()[1]:.1f}"}
  return about | empty | rounded | machine | {"date": datetime.date.today().isoformat()}


def arrow_body(model: Pretrained, days: np.ndarray) -> bytes:
  """Days as an Arrow stream."""
  columns = [
    pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(days[:, :, c]).reshape(-1)), days.shape[1])
    for c in range(days.shape[2])
  ]
  batch = pa.record_batch(columns, names=list(model.schema.names))
  sink = pa.BufferOutputStream()
  with pa.ipc.new_stream(sink, batch.schema) as writer:
    writer.write_batch(batch)
  return sink.getvalue().to_pybytes()


def json_body(days: np.ndarray) -> bytes:
  """Days as JSON, with three decimals."""
  rounded = np.round(days.astype(float), 3).tolist()
  return json.dumps({"days": rounded}).replace("NaN", "null").encode()


def ask(connection: http.client.HTTPConnection, kind: str, body: bytes) -> bytes:
  """The body of an answer."""
  connection.request("POST", "/embed", body, {"Content-Type": kind})
  response = connection.getresponse()
  content = response.read()
  if response.status != 200:
    raise RuntimeError(content.decode())
  return content


def ask_all(port: int, kind: str, bodies: Sequence[bytes]) -> list[bytes]:
  """The answers to all bodies, sent by CLIENTS at a time."""

  def part(client: int) -> list[bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    return [ask(connection, kind, body) for body in bodies[client::CLIENTS]]

  with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
    by_client = list(pool.map(part, range(CLIENTS)))
  return [by_client[i % CLIENTS][i // CLIENTS] for i in range(len(bodies))]


def one_by_one(
  model: Pretrained, days: np.ndarray, port: int, bodies: Sequence[bytes]
) -> tuple[list[float], list[float]]:
  """Seconds per single day, in turns: embedded in this process, and by the service for one client."""
  connection = http.client.HTTPConnection("127.0.0.1", port)
  times: tuple[list[float], list[float]] = ([], [])
  model.embed(days[:1])  # compiles
  for day in days:
    model.embed(day[None])
  for i in range(SINGLES.value):
    began = time.perf_counter()
    model.embed(days[i % len(days)][None])
    between = time.perf_counter()
    ask(connection, JSON, bodies[i % len(days)])
    times[0].append(between - began)
    times[1].append(time.perf_counter() - between)
  return times


def waits(port: int, bodies: Sequence[bytes], count: int, clients: int) -> list[float]:
  """Seconds from each request of a single day to its answer, with so many clients at a time."""

  def part(client: int) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    times = []
    for i in range(client, count, clients):
      began = time.perf_counter()
      ask(connection, JSON, bodies[i % len(bodies)])
      times.append(time.perf_counter() - began)
    return times

  with concurrent.futures.ThreadPoolExecutor(clients) as pool:
    return [seconds for times in pool.map(part, range(clients)) for seconds in times]


if __name__ == "__main__":
  app.run(main)
