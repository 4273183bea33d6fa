"""What each --mode does, from flags to files."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import jax
import ml_collections

import aim.evaluation.defaults
import aim.inference.defaults
import aim.model.defaults
import aim.report.defaults
import aim.training.defaults
from aim.common import config_files
from aim.common.config_files import ConfigError
from aim.evaluation.finetuning.run import run_finetune
from aim.evaluation.generative.heldout_loss import heldout as run_heldout
from aim.evaluation.generative.run import evaluate as run_evaluate
from aim.evaluation.probing.robustness import run_robustness
from aim.evaluation.probing.run import run_probe
from aim.inference import pretrained
from aim.runtime import cache_dir, processes
from aim.studies.compare.run import compare as run_compare
from aim.studies.scaling.run import scaling as run_scaling
from aim.training.pretrain import pretrain as run_pretrain
from data_pipelines.build import build, simulate_request
from data_pipelines.dataset import Dataset


def use_compile_cache() -> None:
  """Keeps compiled programs between runs, in the user's cache folder or where JAX_COMPILATION_CACHE_DIR says."""
  if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    jax.config.update("jax_compilation_cache_dir", str(cache_dir.cache_folder("xla")))


def open_workdir(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
  """Makes the run's folder and writes the resolved config.json into it; of several processes the first does."""
  workdir.mkdir(parents=True, exist_ok=True)
  if processes.is_first_process():
    config_files.write(config, workdir / "config.json")


def open_dataset(config: ml_collections.ConfigDict) -> Dataset:
  """The dataset config.data names; where it names none, the simulated cohort, built on first use."""
  data = config.data
  if data.name:
    return Dataset.open(data.dir, data.name)
  from data_pipelines.simulator.simulation import Simulation

  name = config_files.simulated_name(data)
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
  from aim.planning import topology
  from aim.planning.preflight import preflight as run_preflight

  on = topology.find(name, config.mesh.slices)  # before anything asks JAX for its devices
  folder = pathlib.Path(workdir or pathlib.Path("runs", f"preflight_{name.replace(':', '_')}"))
  open_workdir(folder, config)
  dataset = Dataset.open(config.data.dir, config.data.name) if config.data.name else None
  run_preflight(config, folder, dataset, on)


def scale_out(workdir: str, beside: Sequence[str], chips: Sequence[str], loader: float) -> None:
  """Throughput on other slices than a preflight's; no hardware is needed."""
  from aim.planning.scale_out import scale_out as run_scale_out

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

  first = Workdir(workdir, config or _config_of(workdir), open_dataset, trained)
  folders = [pathlib.Path(folder) for folder in beside]
  others = [Workdir(folder, _config_of(folder), open_dataset) for folder in folders]
  print(page.write([first, *others], first.config, workdir / "report"))


def _config_of(workdir: pathlib.Path) -> ml_collections.ConfigDict:
  """The config.json of a run of this or an older version."""
  rooms = (aim.model, aim.training, aim.inference, aim.evaluation, aim.report)
  path = workdir / "config.json"
  return config_files.with_defaults(config_files.read(path), [room.defaults.defaults() for room in rooms], str(path))
