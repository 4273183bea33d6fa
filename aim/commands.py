"""One entry per --mode: what it does, which flags it needs, whether several processes share it, and how it runs.

Nothing heavy is imported before a mode runs, so that --help and mistakes in the flags answer at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ml_collections

import aim.evaluation.defaults
import aim.inference.defaults
import aim.model.defaults
import aim.report.defaults
import aim.studies.defaults
import aim.training.defaults
from aim.common import config_files, config_ranges, output_files
from aim.common.config_files import ConfigError
from aim.training import compatibility
from data_pipelines.remote import objects

if TYPE_CHECKING:
  import data_pipelines.dataset
  from aim.inference.pretrained import Pretrained

_ROOMS = (aim.model, aim.training, aim.inference, aim.evaluation, aim.studies, aim.report)
STATISTICS = aim.inference.defaults.STATISTICS
RANGES = {key: allowed for room in _ROOMS for key, allowed in room.defaults.RANGES.items()}


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The values of the flags of aim/main.py, under their names; `checkpoint` is --workdir where it is not given."""

  mode: str
  config: ml_collections.ConfigDict | None = None
  workdir: str | None = None
  checkpoint: str | None = None
  data: str | None = None
  data_dir: str = "data"
  split: str = "all"
  input: str | None = None
  workdirs: Sequence[str] = ()
  topology: str | None = None
  forms: Sequence[str] = ()
  chips: Sequence[str] = ()
  loader: float = 0.0
  output: str | None = None
  export_dtype: str = "float32"
  format: str = "aim"
  overwrite: bool = False
  card: str | None = None
  source: str = "auto"
  timezone: str | None = None
  vocabulary: str | None = None
  statistics: str = "checkpoint"
  given: frozenset[str] = frozenset()  # names of the flags that the command line has
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # {key: value} of its --config.key=value

  @property
  def own_vocabulary(self) -> str | None:
    """The YAML file that extends the vocabulary of channels: --vocabulary or else config.data.vocabulary, if any."""
    of_config = self.config.data.get("vocabulary", "") if self.config is not None else ""
    return self.vocabulary or of_config or None

  def required(self, flag: str) -> Any:
    """The value of a flag that the mode needs.

    Raises:
      ConfigError: it was not given.
    """
    value = getattr(self, flag)
    if value is None:
      raise ConfigError(f"--mode={self.mode} needs --{flag}=...")
    return value

  def writable_workdir(self) -> pathlib.Path:
    """The workdir, which exists and can be written from here on.

    Raises:
      ConfigError: it cannot.
    """
    workdir = pathlib.Path(self.required("workdir"))
    output_files.check_folder(workdir, f"--workdir={workdir}")
    return workdir

  def opened(self) -> tuple[ml_collections.ConfigDict, pathlib.Path]:
    """The config and the workdir, which exists and holds the resolved config.json of this study from here on."""
    config, workdir = self.required("config"), self.writable_workdir()
    open_workdir(workdir, config)
    return config, workdir

  def opened_for_scores(self) -> tuple[ml_collections.ConfigDict, pathlib.Path]:
    """The config and the workdir of a trained model that this mode scores.

    config.json belongs to the training run. It is written only if there is none, as in a workdir of its own for the
    scores of a --checkpoint.

    Raises:
      ConfigError: the workdir has checkpoints, and the model to score is not the newest of them.
    """
    config, workdir = self.required("config"), self.writable_workdir()
    self._check_own_scores(workdir)
    if not (workdir / "config.json").exists():
      open_workdir(workdir, config)
    return config, workdir

  def _check_own_scores(self, workdir: pathlib.Path) -> None:
    """Refuses to put scores of one model among those of another, the newest checkpoint of the workdir."""
    if self.checkpoint is None or self.checkpoint == self.workdir:
      return
    from aim.training import checkpoint

    steps = checkpoint.complete_steps(workdir)
    newest = checkpoint.checkpoint_folder(workdir) / str(steps[-1]) if steps else None
    named = pathlib.Path(self.checkpoint).resolve()
    if newest is not None and named not in (workdir.resolve(), pathlib.Path(newest).resolve()):
      raise ConfigError(
        f"--checkpoint={self.checkpoint}: --workdir={self.workdir} keeps the scores of its own newest checkpoint, step "
        f"{steps[-1]}; name another --workdir for the scores of this one"
      )

  def keep_record(self, model: Pretrained) -> None:
    """Records which model the scores are of that are complete, and the resolved config that they were made with."""
    from aim.evaluation import scored_model
    from aim.runtime import processes

    workdir = pathlib.Path(self.required("workdir"))
    open_workdir(workdir / "configs", self.required("config"), f"{self.mode}.json")
    if processes.is_first_process():
      scored_model.record(workdir, self.mode, scored_model.ScoredModel.of(model))


@dataclasses.dataclass(frozen=True)
class Mode:
  """One value of --mode.

  Attributes:
    name: the value.
    help: one line.
    needs: flags without which it cannot run.
    run: does the work.
    optional: the other flags that it uses; any flag but these and those that join processes is refused.
    shared: several processes share its work; any other mode runs in one process.
    trains: it trains in the workdir, where no other run may train meanwhile.
    task: what it is for; --help lists the modes by it.
    computes: it needs devices in this process.
  """

  name: str
  help: str
  needs: tuple[str, ...]
  run: Callable[[Arguments], None]
  optional: tuple[str, ...] = ()
  shared: bool = False
  trains: bool = False
  task: str = ""
  computes: bool = True


def open_workdir(workdir: pathlib.Path, config: ml_collections.ConfigDict, name: str = "config.json") -> None:
  """Makes the folder and writes the resolved config into it; of several processes the first one writes."""
  from aim.runtime import processes

  workdir.mkdir(parents=True, exist_ok=True)
  if processes.is_first_process():
    config_files.write(config, workdir / name)


def open_dataset(config: ml_collections.ConfigDict) -> data_pipelines.dataset.Dataset:
  """The dataset or the mix that config.data names; without a name the simulated cohort, built on first use.

  Raises:
    UserError: no such dataset, or one of another request under this name.
  """
  from aim.common import datasets
  from data_pipelines.build import build, simulate_request
  from data_pipelines.simulator.simulation import Simulation

  data = config.data
  if _is_named(data):
    return datasets.open_named(data)
  source = lambda: Simulation(participants=data.participants, days=data.days, seed=data.seed)
  request = simulate_request(data.participants, data.days, data.seed)
  return datasets.as_configured(build(source, data.dir, config_files.simulated_name(data), request=request), data)


def open_built(config: ml_collections.ConfigDict) -> data_pipelines.dataset.Dataset:
  """The dataset of `open_dataset`, which nothing is built for.

  Raises:
    UserError: there is no such dataset, or it is not built yet.
  """
  from aim.common import datasets
  from data_pipelines.dataset import Dataset

  data = config.data
  if _is_named(data):
    return datasets.open_named(data)
  return datasets.as_configured(Dataset.open(data.dir, config_files.simulated_name(data)), data)


def _is_named(data: ml_collections.ConfigDict) -> bool:
  """True if config.data is of datasets that were built with a name, rather than of the simulated cohort."""
  return bool(data.name or data.mix or data.minutes_per_step)


def open_scored(config: ml_collections.ConfigDict, trained: str, split: str = "eval") -> data_pipelines.dataset.Dataset:
  """The dataset of `open_dataset`, before a model is loaded to score it.

  Args:
    config: names the dataset.
    trained: the model, which has to be there before a cohort is simulated for it.
    split: of the days that are scored.

  Raises:
    UserError: there is no such dataset, it has no days in this split, or there is no model.
  """
  from data_pipelines.errors import UserError

  try:
    dataset = open_built(config)
  except UserError:
    if not _is_named(config.data):
      from aim.training.trained.source import read

      read(trained)
    dataset = open_dataset(config)
  dataset.require_days(split)
  return dataset


def check_training_data(config: ml_collections.ConfigDict) -> None:
  """Refuses to spend several accelerators on the simulated cohort, which a forgotten data.name would train on.

  Raises:
    ConfigError: there is no config.data.name, no config.data.simulate, and more than one accelerator.
  """
  import jax

  accelerators = sum(device.platform != "cpu" for device in jax.devices())
  if accelerators > 1 and not config.data.name and not config.data.mix and not config.data.simulate:
    raise ConfigError(
      f"config.data.name is empty, so {accelerators} accelerators would train on {config.data.participants} simulated "
      "people; name a dataset with --config.data.name=..., or confirm with --config.data.simulate=True"
    )


def pretrain_mode(arguments: Arguments) -> None:
  """Trains in the workdir; config.json is written once it is known that the run can continue there."""
  from aim.common import datasets
  from aim.runtime import processes
  from aim.training.pretrain import pretrain

  config, workdir = arguments.required("config"), arguments.writable_workdir()
  check_training_data(config)
  dataset = open_dataset(config)
  if not dataset.num_days("eval") and processes.is_first_process():
    print(f"note: nothing can be scored after this training: {dataset.empty_text('eval')}", flush=True)
  if processes.is_first_process():
    for line in datasets.told(dataset, config.model.decoder.tokens):
      print(line, flush=True)
  pretrain(config, workdir, dataset)


def evaluate_mode(arguments: Arguments) -> None:
  """Scores the model at generative tasks, beside the imputers."""
  from aim.evaluation.generative.run import evaluate
  from aim.inference import loading

  config, workdir = arguments.opened_for_scores()
  dataset = open_scored(config, arguments.required("checkpoint"), config.evaluate.split)
  model, dataset = loading.load_for(
    arguments.required("checkpoint"),
    dataset,
    config.evaluate.batch_size,
    None if config.impute.short_holes == "auto" else config.impute.short_holes,  # None: as the model has it
    own_vocabulary=arguments.own_vocabulary,
  )
  evaluate(config.evaluate, model, dataset, workdir)
  arguments.keep_record(model)


def heldout_mode(arguments: Arguments) -> None:
  """Computes the loss on people never seen, under masks that every model of a kind shares."""
  from aim.evaluation.generative.heldout_loss import heldout
  from aim.inference import loading

  config, workdir = arguments.opened_for_scores()
  dataset = open_scored(config, arguments.required("checkpoint"), config.evaluate.split)
  model, dataset = loading.load_for(
    arguments.required("checkpoint"), dataset, config.evaluate.batch_size, own_vocabulary=arguments.own_vocabulary
  )
  heldout(config, model, dataset, workdir)
  arguments.keep_record(model)


def probe_mode(arguments: Arguments) -> None:
  """Fits and scores linear probes of the frozen embedding."""
  from aim.evaluation.probing.run import run_probe
  from aim.inference import loading

  config, workdir = arguments.opened_for_scores()
  dataset = open_scored(config, arguments.required("checkpoint"))
  model, dataset = loading.load_for(
    arguments.required("checkpoint"), dataset, config.probe.batch_size, own_vocabulary=arguments.own_vocabulary
  )
  run_probe(config.probe, model, dataset, workdir / "probe")
  arguments.keep_record(model)


def finetune_mode(arguments: Arguments) -> None:
  """Trains the encoder on labels, beside networks from scratch."""
  from aim.evaluation.finetuning.run import run_finetune
  from aim.inference import loading

  config, workdir = arguments.opened_for_scores()
  dataset = open_scored(config, arguments.required("checkpoint"))
  model, dataset = loading.load_for(
    arguments.required("checkpoint"), dataset, config.finetune.batch_size, own_vocabulary=arguments.own_vocabulary
  )
  run_finetune(config, model, dataset, workdir / "finetune")
  arguments.keep_record(model)


def robustness_mode(arguments: Arguments) -> None:
  """Scores the probes on days that lost sensors or hours."""
  from aim.evaluation.probing.robustness import run_robustness
  from aim.inference import loading

  config, workdir = arguments.opened_for_scores()
  dataset = open_scored(config, arguments.required("checkpoint"))
  model, dataset = loading.load_for(
    arguments.required("checkpoint"), dataset, config.probe.batch_size, own_vocabulary=arguments.own_vocabulary
  )
  run_robustness(config, model, dataset, workdir / "robustness")
  arguments.keep_record(model)


def compare_mode(arguments: Arguments) -> None:
  """Trains models of its own; --checkpoint has no effect."""
  from aim.studies.compare.run import compare

  compare(*arguments.opened())


def scaling_mode(arguments: Arguments) -> None:
  """Trains models of its own; --checkpoint has no effect."""
  from aim.studies.scaling.run import scaling

  scaling(*arguments.opened())


def preflight_mode(arguments: Arguments) -> None:
  """Inspects a run before it is paid for; neither the hardware nor a dataset nor --workdir is needed."""
  from aim.common import datasets
  from aim.planning import topology
  from aim.planning.preflight import preflight

  config, name = arguments.required("config"), arguments.required("topology")
  hardware = topology.find(name, config.mesh.slices)  # before anything asks JAX for its devices
  workdir = pathlib.Path(arguments.workdir or pathlib.Path("runs", f"preflight_{name.replace(':', '_')}"))
  output_files.check_folder(workdir, f"--workdir={workdir}")
  open_workdir(workdir, config)
  dataset = datasets.open_named(config.data) if datasets.is_named(config.data) else None
  preflight(config, workdir, dataset, hardware, arguments.forms)


def scale_out_mode(arguments: Arguments) -> None:
  """Estimates the throughput on other slices than a preflight's; no hardware is needed."""
  from aim.planning.scale_out import scale_out

  if not all(re.fullmatch("[0-9]{1,9}", count) for count in arguments.chips):
    raise ConfigError(f"--chips={','.join(arguments.chips)}: expected numbers, as in 8,16,32")
  chips = [int(count) for count in arguments.chips]
  others = [pathlib.Path(workdir) for workdir in arguments.workdirs]
  scale_out(pathlib.Path(arguments.required("workdir")), others, chips, arguments.loader)


def report_mode(arguments: Arguments) -> None:
  """Writes the page of the workdir, beside those of --workdirs; without --config it reads the workdir's config.json.

  With --input or --data it is the page of these days. Of the folder of a study it is the page of its results.
  """
  if arguments.input or arguments.data:
    from aim.report.my_days.command import write

    options = arguments.source, arguments.timezone, arguments.data, arguments.data_dir, arguments.split
    write(
      arguments.required("checkpoint"),
      arguments.input,
      *options,
      arguments.output,
      arguments.own_vocabulary,
      arguments.statistics,
    )
    return
  from aim.report import page, study_page
  from aim.report.workdir import Workdir

  folder = pathlib.Path(arguments.required("workdir"))
  if study_page.is_study(folder):
    for flag in ("checkpoint", "workdirs"):
      if flag in arguments.given:
        raise ConfigError(f"--{flag}: --mode=report does not use it for the folder of a study, {folder}")
    output_files.check_folder(folder / "report", f"--workdir={folder}")
    print(study_page.write(folder, folder / "report"))
    return
  for path in filter(study_page.is_study, map(pathlib.Path, arguments.workdirs)):
    raise ConfigError(f"--workdirs: {path} is the folder of a study, expected runs, such as {path}/cells/NAME")
  config = arguments.config or saved_config(folder)
  output_files.check_folder(folder / "report", f"--workdir={folder}")
  first = Workdir(folder, config, open_built, arguments.required("checkpoint"))
  others = [Workdir(path, saved_config(path), open_built) for path in map(pathlib.Path, arguments.workdirs)]
  written = page.write([first, *others], first.config, folder / "report")
  for line in (line for workdir in (first, *others) for line in workdir.left_out.values()):
    print(f"note: {line}")
  print(written)


def embed_mode(arguments: Arguments) -> None:
  """Writes one embedding per day of a dataset or an npz file."""
  from aim.inference.commands import embed

  trained, data = arguments.required("checkpoint"), arguments.required("data")
  output = arguments.required("output")
  embed(trained, data, arguments.data_dir, arguments.split, output, arguments.own_vocabulary)


def impute_mode(arguments: Arguments) -> None:
  """Writes an npz file with its holes filled."""
  from aim.inference.commands import impute

  trained, output = arguments.required("checkpoint"), arguments.required("output")
  impute(trained, arguments.required("input"), output, arguments.own_vocabulary, arguments.statistics)


def calibrate_mode(arguments: Arguments) -> None:
  """Measures the errors on people never seen, so that what is filled in has intervals."""
  from aim.evaluation.calibration import calibrate
  from aim.inference import loading

  workdir, names = arguments.writable_workdir(), arguments.required("data").split(",")
  calibrate(loading.load(workdir, own_vocabulary=arguments.own_vocabulary), arguments.data_dir, names, workdir)


def export_mode(arguments: Arguments) -> None:
  """Writes the model as a folder of safetensors, JSON and a model card."""
  from aim.evaluation import score_table
  from aim.evaluation.scored_model import ScoredModel
  from aim.inference.commands import export

  trained, output = arguments.required("checkpoint"), arguments.required("output")
  scored = pathlib.Path(arguments.workdir or trained)
  options = arguments.export_dtype, arguments.overwrite, arguments.card
  scores = lambda model: score_table.markdown(scored, ScoredModel.of(model))
  export(trained, output, *options, scores, arguments.format)


def saved_config(workdir: pathlib.Path) -> ml_collections.ConfigDict:
  """The config.json of a run of this or an older version."""
  path = workdir / "config.json"
  complete = completed(config_files.read(path), str(path))
  config_ranges.check(complete, RANGES, where=f"{path}: ")
  return complete


def own_config(config: ml_collections.ConfigDict, where: str) -> ml_collections.ConfigDict:
  """The config of --config, complete; a missing key is reported and gets its default.

  Raises:
    ConfigError: it has a key that no mode reads, such as a mistyped one.
  """
  defaults = ml_collections.ConfigDict({key: value for room in _defaults(config) for key, value in room.items()})
  known = {key for key, _ in config_files.leaves(defaults)}
  config_files.check_keys(defaults, [key for key, _ in config_files.leaves(config) if key not in known], f"{where}: ")
  return completed(config, where)


def completed(config: ml_collections.ConfigDict, where: str) -> ml_collections.ConfigDict:
  """A config in the keys of this version: config.json may be of another version.

  Missing and unknown keys are reported; `where` names the file.

  Raises:
    ConfigError: it has an unknown key that would change the model's function.
  """
  return compatibility.completed(config, _defaults(config), where)


def _defaults(config: ml_collections.ConfigDict) -> list[ml_collections.ConfigDict]:
  """The defaults of every room, with the sizes of `config` in place of the ladder's, because their names are free."""
  rooms = [room.defaults.defaults() for room in _ROOMS]
  for room in rooms:
    if "scaling" in room and "ladder" in config.get("scaling", {}):
      room.scaling.ladder = config.scaling.ladder
  return rooms


_RUN = ("config", "workdir")
_SCORED = ("checkpoint", "vocabulary")
_USED = ("checkpoint", "workdir", "vocabulary")  # --workdir may stand for --checkpoint
_OWN_DAYS = ("input", "source", "timezone", "data", "data_dir", "split", "output")
_TRAIN, _USE, _SCORE = "Train a model", "Use a trained model", "Score a trained model on people never seen"
_STUDY, _PLAN = "Compare many models", "Plan a run"
_MODES = (
  Mode(
    "pretrain",
    "train a model, or continue from the newest checkpoint",
    _RUN,
    pretrain_mode,
    shared=True,
    trains=True,
    task=_TRAIN,
  ),
  Mode(
    "embed",
    "write one embedding per day",
    ("checkpoint", "output", "data"),
    embed_mode,
    (*_USED, "data_dir", "split", "config"),  # launchers pass --config; its data.vocabulary is used
    shared=True,
    task=_USE,
  ),
  Mode(
    "impute",
    "fill the holes of days in an npz file",
    ("checkpoint", "output", "input"),
    impute_mode,
    (*_USED, "statistics"),
    task=_USE,
  ),
  Mode(
    "export",
    "write the model as a folder to share",
    ("checkpoint", "output"),
    export_mode,
    ("workdir", "export_dtype", "overwrite", "card", "format"),
    task=_USE,
  ),
  Mode(
    "report",
    "write one HTML page about your own days, or about workdirs",
    ("checkpoint",),
    report_mode,
    ("config", *_USED, "workdirs", "statistics", *_OWN_DAYS),
    task=_USE,
  ),
  Mode("evaluate", "score imputation, beside other imputers", _RUN, evaluate_mode, _SCORED, shared=True, task=_SCORE),
  Mode("heldout", "the training loss", _RUN, heldout_mode, _SCORED, shared=True, task=_SCORE),
  Mode(
    "calibrate",
    "measure how sure it is of what it fills in",
    ("workdir", "data"),
    calibrate_mode,
    ("data_dir", "vocabulary"),
    task=_SCORE,
  ),
  Mode("probe", "predict labels from the frozen embedding", _RUN, probe_mode, _SCORED, task=_SCORE),
  Mode(
    "finetune",
    "train the encoder on labels, beside networks from scratch",
    _RUN,
    finetune_mode,
    _SCORED,
    task=_SCORE,
  ),
  Mode("robustness", "score probes on days that lost sensors or hours", _RUN, robustness_mode, _SCORED, task=_SCORE),
  # The commands of a study have the devices. The next four ask for none in this process.
  Mode(
    "compare",
    "train and score several models on the same people, in one table",
    _RUN,
    compare_mode,
    trains=True,
    task=_STUDY,
    computes=False,
  ),
  Mode(
    "scaling",
    "held-out loss against data, model size and compute",
    _RUN,
    scaling_mode,
    trains=True,
    task=_STUDY,
    computes=False,
  ),
  Mode(
    "preflight",
    "compile a run for hardware that need not be here",
    ("config", "topology"),
    preflight_mode,
    ("workdir", "forms"),
    task=_PLAN,
    computes=False,
  ),
  Mode(
    "scale_out",
    "estimate the throughput on other numbers of chips",
    ("workdir",),
    scale_out_mode,
    ("workdirs", "chips", "loader"),
    task=_PLAN,
    computes=False,
  ),
)
MODES = {mode.name: mode for mode in _MODES}
_EVERY_MODE = ("mode", "distributed", "coordinator", "num_processes", "process_id")
# Config keys that say which days a study is about.
_READ_BY_STUDIES = tuple(f"data.{key}" for key in ("dir", "name", "mix", "participants", "days", "seed"))
# {config key: {study: key of its own that sets this one for its models}}
_SET_BY_STUDIES = {
  "seed": {"compare": "seeds", "scaling": "seeds"},
  "total_steps": {"scaling": "steps"},
  "optimizer.learning_rate": {"scaling": "ladder"},
  "data.max_participants": {"scaling": "participants"},
  "data.max_days": {"scaling": "days"},
}
# {(mode, flag that it does not use): what was probably meant}
_MEANT = {
  (mode.name, flag): meant
  for flag, meant in (
    ("data", "the dataset: --config.data.name"),
    ("data_dir", "the folder of the datasets: --config.data.dir"),
    ("vocabulary", "names of one's own: --config.data.vocabulary"),
  )
  for mode in _MODES
  if "config" in mode.needs
} | {
  ("pretrain", "checkpoint"): "to start from weights: --config.init.checkpoint",
  ("evaluate", "split"): "what is scored: --config.evaluate.split",
  ("heldout", "split"): "what is scored: --config.evaluate.split",
}


def help_text() -> str:
  """The modes by what they are for, a line each."""
  tasks = dict.fromkeys(mode.task for mode in MODES.values())
  listed = lambda task: [f"  {mode.name:<11} {mode.help}" for mode in MODES.values() if mode.task == task]
  return "\n".join(line for task in tasks for line in (f"{task}:", *listed(task)))


def check_flags(arguments: Arguments) -> None:
  """Checks the flags before any work.

  Raises:
    ConfigError: a flag is missing that the mode needs, one is given that it does not use, a value of the config is out
      of its range, a path is remote that has to be local, or the output is the input.
  """
  mode = MODES[arguments.mode]
  check_used(arguments, mode)
  for flag in mode.needs:
    arguments.required(flag)
  _check_once((*([arguments.workdir] if arguments.workdir else ()), *arguments.workdirs))
  for flag in ("input", "data"):  # of the objects of a store; files are compared where they are opened
    if arguments.output and objects.is_remote(arguments.output) and arguments.output == getattr(arguments, flag):
      raise ConfigError(f"--output={arguments.output}: is what --{flag} names, which it would overwrite")
  if arguments.mode == "export" and arguments.output and objects.is_remote(arguments.output):
    raise ConfigError(f"--output={arguments.output}: expected a folder on this machine, from where it can be copied")
  if arguments.workdir and objects.scheme(arguments.workdir) == "hf":
    raise ConfigError(f"--workdir={arguments.workdir}: a model of a hub is read only; name it with --checkpoint")
  if arguments.config is not None:
    config_ranges.check(arguments.config, RANGES)
    for key, value in config_files.leaves(arguments.config):
      if key in ("evaluate.export", "evaluate.external") and "://" in value:
        raise ConfigError(f"--config.{key}={value}: expected a path on this machine")


def check_used(arguments: Arguments, mode: Mode) -> None:
  """Refuses flags on the command line that have no effect.

  Raises:
    ConfigError: see check_flags.
  """
  for flag in sorted(arguments.given.difference(_EVERY_MODE, mode.needs, mode.optional)):
    others = [other.name for other in MODES.values() if flag in (*other.needs, *other.optional)]
    meant = _MEANT.get((mode.name, flag))
    raise ConfigError(
      f"--{flag}: --mode={mode.name} does not use it (those that do: {', '.join(others)})" + f"; {meant}" * bool(meant)
    )
  if mode.task == _STUDY:
    _check_of_study(mode.name, arguments.config, arguments.overrides)
  unused = _without_effect(arguments)
  for flag in (flag for flag in unused if flag in arguments.given):
    raise ConfigError(f"--{flag}: --mode={mode.name} does not use it {unused[flag]}")


def _check_once(workdirs: Sequence[str]) -> None:
  """Refuses a workdir that is listed twice, under whatever path.

  Raises:
    ConfigError: there is one; the first of them is --workdir.
  """
  known: dict[str, str] = {}
  for workdir in workdirs:
    place = workdir.rstrip("/") if objects.is_remote(workdir) else str(pathlib.Path(workdir).resolve())
    if place in known:
      raise ConfigError(f"--workdirs: {workdir} is the same workdir as {known[place]}; leave one of them out")
    known[place] = workdir


def _check_of_study(study: str, config: ml_collections.ConfigDict | None, overrides: Mapping[str, Any]) -> None:
  """Refuses config keys on the command line that a study does not read: its models have configs of their own.

  Raises:
    ConfigError: there is one; the message says where its value belongs.
  """
  for key, value in overrides.items():
    if key.split(".")[0] == study or key in _READ_BY_STUDIES:
      continue
    where = f"--config.{key}: --mode={study} does not use it"
    if key.split(".")[0] in ("compare", "scaling", "report"):
      raise ConfigError(where)
    place = _SET_BY_STUDIES.get(key, {}).get(study)
    meant = f"--config.{study}.{place}"
    if not place:  # what the study has in common stays
      flags = repr((*(config[study].common if config else ()), f"--config.{key}={value}"))
      start = f"--config.{study}.common="
      meant = shlex.quote(start + flags) if '"' in flags else f'{start}"{flags}"'
    raise ConfigError(f"{where}, as its models have configs of their own; expected {meant}")


def _without_effect(arguments: Arguments) -> dict[str, str]:
  """{flag: when the mode does not use it}, of flags that depend on the others."""
  own_days = arguments.mode == "report" and (arguments.input or arguments.data)
  unused: dict[str, str] = {}
  if arguments.mode == "report" and not own_days:
    unused |= dict.fromkeys(
      ("source", "timezone", "data_dir", "split", "output", "vocabulary", "statistics"),
      "for a page of workdirs, without --input or --data",
    )
  if own_days:
    unused |= dict.fromkeys(("config", "workdirs"), "for a page of days, with --input or --data")
  if own_days or arguments.mode in ("embed", "impute"):
    if "checkpoint" in arguments.given:
      unused["workdir"] = "beside --checkpoint, which names the model"
    if str(arguments.input or arguments.data).endswith(".npz"):
      unused |= dict.fromkeys(("data_dir", "split", "source", "timezone"), "for an npz file")
    elif arguments.input:
      unused |= dict.fromkeys(("data_dir", "split"), "with --input")
    else:
      unused |= dict.fromkeys(("source", "timezone"), "with --data")
  return unused


def run(arguments: Arguments) -> None:
  """Runs the mode.

  Raises:
    ConfigError: there are several processes, and the mode is for one.
    WorkdirError: another process works in the workdir, or it cannot be written.
  """
  from aim.runtime import devices, processes, workdir_lock

  mode = MODES[arguments.mode]
  if not mode.shared and processes.is_multi_process():
    raise ConfigError(f"--mode={mode.name} is for one process, and there are others; run it alone: --distributed=off")
  if mode.computes:
    devices.check_platform()
  with contextlib.ExitStack() as cleanup:
    local = _with_local_paths(arguments, mode, cleanup)
    if local.workdir and "config" in mode.needs:
      # A model may be scored while it trains, by each mode once.
      name = "training" if mode.trains else mode.name
      cleanup.enter_context(workdir_lock.held(pathlib.Path(local.workdir), name, f"--mode={mode.name}"))
    mode.run(local)


def _with_local_paths(arguments: Arguments, mode: Mode, cleanup: contextlib.ExitStack) -> Arguments:
  """The arguments with a local path wherever one names something in an object store, such as gs://bucket/run.

  What is to be read has been fetched; what the mode writes is uploaded, and the rest of it when `cleanup` closes.

  Raises:
    RemoteError: the store cannot be read or written.
  """
  paths = {name: getattr(arguments, name) for name in ("workdir", "output", "input", "data")}
  remote = {name: path for name, path in paths.items() if path and objects.is_remote(path)}
  if not remote and not any(map(objects.is_remote, arguments.workdirs)):
    return arguments
  from aim.runtime import processes, working_copy
  from data_pipelines.remote import copies

  changes: dict[str, Any] = {name: str(copies.local(remote[name])) for name in ("input", "data") if name in remote}
  if "workdir" in remote:
    changes["workdir"] = str(
      cleanup.enter_context(
        working_copy.opened(remote["workdir"], trains=mode.name == "pretrain", exclusive=mode.trains)
      )
    )
    if arguments.checkpoint == arguments.workdir:
      changes["checkpoint"] = changes["workdir"]
  if "output" in remote and processes.is_first_process():
    changes["output"] = str(cleanup.enter_context(copies.output(remote["output"])))
  read_only = lambda path: str(cleanup.enter_context(working_copy.opened(path, writes=False)))
  changes["workdirs"] = [read_only(path) if objects.is_remote(path) else path for path in arguments.workdirs]
  return dataclasses.replace(arguments, **changes)
