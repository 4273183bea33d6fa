"""What each --mode does, from flags to files."""

from __future__ import annotations

import itertools
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence

import jax
import ml_collections
import numpy as np

from aim import cache, hosts, metrics, pretrained, settings
from aim.compare import compare as run_compare
from aim.evaluate import evaluate as run_evaluate
from aim.finetune import finetune as run_finetune
from aim.heldout import heldout as run_heldout
from aim.pretrain import pretrain as run_pretrain
from aim.probe import probe as run_probe
from aim.robustness import robustness as run_robustness
from aim.scaling import scaling as run_scaling
from aim.settings import ConfigError
from data_pipelines import npz
from data_pipelines.build import build, simulate_request
from data_pipelines.dataset import Dataset
from data_pipelines.loader import eval_loader
from data_pipelines.schema import SchemaError


def use_compile_cache() -> None:
  """Keeps compiled programs between runs, in the user's cache folder or where JAX_COMPILATION_CACHE_DIR says."""
  if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    jax.config.update("jax_compilation_cache_dir", str(cache.folder("xla")))


def open_workdir(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
  """Makes the run's folder and writes the resolved config.json into it; of several processes the first does."""
  workdir.mkdir(parents=True, exist_ok=True)
  if hosts.first():
    settings.write(config, workdir / "config.json")


def open_dataset(config: ml_collections.ConfigDict) -> Dataset:
  """The dataset config.data names; where it names none, the simulated cohort, built on first use."""
  data = config.data
  if data.name:
    return Dataset.open(data.dir, data.name)
  from data_pipelines.simulator import Simulation

  name = settings.simulated_name(data)
  source = lambda: Simulation(participants=data.participants, days=data.days, seed=data.seed)
  return build(source, data.dir, name, request=simulate_request(data.participants, data.days, data.seed))


def pretrain(config: ml_collections.ConfigDict, workdir: pathlib.Path, trained: str | pathlib.Path) -> None:
  """Trains in `workdir`, whatever `trained` says; config.json is written once it is known that it can go on."""
  run_pretrain(config, workdir, open_dataset(config))


def evaluate(config: ml_collections.ConfigDict, workdir: pathlib.Path, trained: str | pathlib.Path) -> None:
  model = pretrained.load(trained, config.evaluate.batch_size, config.impute.short_holes)
  run_evaluate(config.evaluate, model, open_dataset(config), workdir)


def heldout(config: ml_collections.ConfigDict, workdir: pathlib.Path, trained: str | pathlib.Path) -> None:
  run_heldout(config, pretrained.load(trained, config.evaluate.batch_size), open_dataset(config), workdir)


def probe(config: ml_collections.ConfigDict, workdir: pathlib.Path, trained: str | pathlib.Path) -> None:
  model = pretrained.load(trained, config.probe.batch_size)
  run_probe(config.probe, model, open_dataset(config), workdir / "probe")


def finetune(config: ml_collections.ConfigDict, workdir: pathlib.Path, trained: str | pathlib.Path) -> None:
  model = pretrained.load(trained, config.finetune.batch_size)
  run_finetune(config, model, open_dataset(config), workdir / "finetune")


def robustness(config: ml_collections.ConfigDict, workdir: pathlib.Path, trained: str | pathlib.Path) -> None:
  model = pretrained.load(trained, config.probe.batch_size)
  run_robustness(config, model, open_dataset(config), workdir / "robustness")


def compare(config: ml_collections.ConfigDict, workdir: pathlib.Path, trained: str | pathlib.Path) -> None:
  """Trains models of its own, whatever `trained` says."""
  run_compare(config, workdir)


def scaling(config: ml_collections.ConfigDict, workdir: pathlib.Path, trained: str | pathlib.Path) -> None:
  """Trains models of its own, whatever `trained` says."""
  run_scaling(config, workdir)


def preflight(config: ml_collections.ConfigDict, workdir: str | None, name: str) -> None:
  """Looks at a run before it is paid for; no slice, no dataset and no --workdir are needed."""
  from aim import topology
  from aim.preflight import preflight as run_preflight

  on = topology.find(name, config.mesh.get("slices", 1))  # before anything asks JAX for its devices
  folder = pathlib.Path(workdir or pathlib.Path("runs", f"preflight_{name.replace(':', '_')}"))
  open_workdir(folder, config)
  dataset = Dataset.open(config.data.dir, config.data.name) if config.data.name else None
  run_preflight(config, folder, dataset, on)


def scale_out(workdir: str, beside: Sequence[str], chips: Sequence[str], loader: float) -> None:
  """Throughput on other slices than a preflight's; no hardware is needed."""
  from aim.scale_out import scale_out as run_scale_out

  if not all(count.isdigit() for count in chips):
    raise ConfigError(f"--chips={','.join(chips)}: expected numbers, as in 8,16,32")
  run_scale_out(pathlib.Path(workdir), [pathlib.Path(each) for each in beside], [int(count) for count in chips], loader)


def report(
  config: ml_collections.ConfigDict | None,
  workdir: pathlib.Path,
  trained: str | pathlib.Path,
  beside: Sequence[str] = (),
) -> None:
  """The page of `workdir`, with those of `beside` next to it; their config.json tells what `config` does not."""
  from aim.report import page
  from aim.report.workdir import Workdir

  first = Workdir(workdir, config or settings.read(workdir / "config.json"), open_dataset, trained)
  folders = [pathlib.Path(folder) for folder in beside]
  others = [Workdir(folder, settings.read(folder / "config.json"), open_dataset) for folder in folders]
  print(page.write([first, *others], first.config, workdir / "report"))


def embed(trained: str, data: str, data_dir: str, split: str, output: str) -> None:
  """Writes one row a day: participant, date, e000, e001, ... as .parquet, or arrays as .npz."""
  suffix = pathlib.Path(output).suffix
  if suffix not in (".parquet", ".npz"):
    raise ConfigError(f"--output={output}: ends in {suffix!r}, expected .parquet or .npz")
  if hosts.first():
    _check_writable(output)
  model = pretrained.load(trained)
  embedding, participant, date = _embedded(model, *_days(model, data, data_dir, split))
  if not hosts.first():
    return
  if suffix == ".npz":
    np.savez_compressed(output, embedding=embedding, participant=participant, date=date)
  else:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {f"e{i:03d}": embedding[:, i] for i in range(embedding.shape[1])}
    pq.write_table(pa.table({"participant": participant, "date": date, **columns}), output)
  people = len(set(participant.tolist()))
  print(f"{output}: {len(embedding)} days of {people} people, {embedding.shape[1]} numbers each")


def _embedded(
  model: pretrained.Pretrained, days: Iterator[dict[str, np.ndarray]], total: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Embeddings, participants and dates of all days, of which each process computes its batches."""
  parts = []
  with metrics.progress(total, "embed", "day") as bar:
    for batch in days:
      empty = not len(batch["values"])  # a batch that only fills up those of the other processes
      parts.append(None if empty else (model.embed(batch["values"]), batch["participant"], batch["date"]))
      bar.update(hosts.share()[1] * len(batch["values"]))
  turns = itertools.zip_longest(*hosts.gather(parts))
  found = [part for turn in turns for part in turn if part is not None]
  return tuple(np.concatenate(arrays) for arrays in zip(*found, strict=True))  # type: ignore[return-value]


def impute(trained: str, source: str, output: str) -> None:
  """Writes the days of `source` with their holes filled, and `filled` bool [days, steps, channels] telling which."""
  if pathlib.Path(output).suffix != ".npz":
    raise ConfigError(f"--output={output}: expected a name ending in .npz")
  _check_writable(output)
  model = pretrained.load(trained)
  days = npz.read_days(source, schema=model.schema, allow_empty_days=True)
  if "filled" in days.original:
    raise SchemaError(f"{source}: key 'filled' is there, so its holes are filled already")
  filled = np.isnan(days.values)
  npz.write_days(output, days.original, model.impute(days.values, progress=True), {"filled": filled})
  share = 100 * filled.mean()
  print(f"{output}: filled {filled.sum():,} of {filled.size:,} values ({share:.1f} %) in {len(filled)} days")


def _check_writable(output: str) -> None:
  """Makes the folder of the output; ConfigError now, not after hours of computing, if nothing can be written there."""
  folder = pathlib.Path(output).parent
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise ConfigError(f"--output={output}: cannot write to {folder}: {error.strerror}") from None


def _days(
  model: pretrained.Pretrained, data: str, data_dir: str, split: str
) -> tuple[Iterator[dict[str, np.ndarray]], int]:
  """Batches of values, participant and date of an npz file's days or of a dataset's, and the number of days in all.

  Of several processes each has every so many batches, those that one process has in its turn.
  """
  host, count = hosts.share()
  if data.endswith(".npz"):
    days = npz.read_days(data, schema=model.schema)
    model.check(days.values, data, empty_days=False)
    columns = {"values": days.values, "participant": days.participant, "date": days.date}
    starts = range(host * model.batch_size, len(days.values), count * model.batch_size)
    cut = lambda start: slice(start, start + model.batch_size)
    return ({name: array[cut(start)] for name, array in columns.items()} for start in starts), len(days.values)
  dataset = Dataset.open(data_dir, data)
  model.check_dataset(dataset)
  splits = [name for name in ("pretrain", "tune", "eval") if dataset.num_days(name)] if split == "all" else [split]
  batches = (
    {name: array[batch["weight"] > 0] for name, array in batch.items()}
    for name in splits
    for batch in eval_loader(dataset, split=name, batch_size=count * model.batch_size, host=host, hosts=count)
  )
  return batches, sum(dataset.num_days(name) for name in splits)
