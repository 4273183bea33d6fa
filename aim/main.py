"""The command line: python -m aim.main --config=NAME --workdir=DIR --mode=MODE [--config.key=value ...]."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import NoReturn

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from aim import commands
from aim.common import config_files
from aim.common.config_files import ConfigError
from data_pipelines import streams

MODE = flags.DEFINE_enum("mode", "pretrain", list(commands.MODES), "What to do.")
CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment: a shipped one, such as lsm2_tiny, or a .py file.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run: checkpoints, config.json, metrics, results.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Trained model: whatever aim.load takes; default: --workdir.")
DATA = flags.DEFINE_string(
  "data", None, "embed, report: the name of a dataset, or an npz file of days; calibrate: names, as in a,b."
)
DATA_DIR = flags.DEFINE_string(
  "data_dir", "data", "embed, report, calibrate: the folder of the dataset that --data names."
)
SPLIT = flags.DEFINE_string(
  "split", "all", "embed, report: the split of the dataset: pretrain, tune, eval, or all days."
)
INPUT = flags.DEFINE_string(
  "input", None, "impute: npz file of days with holes; report: the same, or an export of a watch, an app or a study."
)
SOURCE = flags.DEFINE_string("source", "auto", "report: the importer that reads an export.")
TIMEZONE = flags.DEFINE_string(
  "timezone", None, "report: IANA zone of an export that has only UTC times, such as Europe/Berlin."
)
WORKDIRS = flags.DEFINE_list("workdirs", [], "report, scale_out: other workdirs to show beside --workdir.")
TOPOLOGY = flags.DEFINE_string("topology", None, "preflight: v5e:8x16, v5p:2x2x4, v6e:8x8, h100:8, ..., local.")
FORMS = flags.DEFINE_list("forms", [], "preflight: forms to show side by side, such as textbook,trimmed,packed.")
CHIPS = flags.DEFINE_list("chips", ["8", "16", "32", "64", "128", "256"], "scale_out: numbers of chips to estimate.")
LOADER = flags.DEFINE_float(
  "loader", 2002.0, "scale_out: windows/s that one host reads; python -m benchmarks.loader measures it."
)
OUTPUT = flags.DEFINE_string(
  "output",
  None,
  "embed: .parquet or .npz file; impute: .npz file; export: folder; report: folder or .html [my_days].",
)
EXPORT_DTYPE = flags.DEFINE_enum("export_dtype", "float32", ("float32", "float16", "bfloat16"), "export: as stored.")
FORMAT = flags.DEFINE_enum(
  "format", "aim", ("aim", "openmhc", "stablehlo"), "export: the layout of the folder; stablehlo: functions for JAX."
)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "export: replace an exported folder.")
VOCABULARY = flags.DEFINE_string("vocabulary", None, "YAML file of own channels and names, for data of other channels.")
STATISTICS = flags.DEFINE_enum(
  "statistics",
  "checkpoint",
  commands.STATISTICS,
  "impute, report: whose statistics scale what would be clipped.",
)
CARD = flags.DEFINE_string("card", None, "export: YAML file of what only people know, for the model card.")

# Several processes, one per host or per GPU, are all started with the same command (aim/runtime/processes.py).
DISTRIBUTED = flags.DEFINE_enum(
  "distributed",
  "auto",
  ("auto", "on", "off"),
  "Join other processes; auto: where Cloud TPU, GKE or Slurm started them.",
)
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where no scheduler provides it.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the run, with --coordinator.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.", lower_bound=0)


HELP = ("--help", "-help", "-h", "--helpshort", "-?")
_FLAGS = (
  *(MODE, CONFIG, WORKDIR, CHECKPOINT, DATA, DATA_DIR, SPLIT, INPUT, OUTPUT, WORKDIRS, TOPOLOGY, FORMS, CHIPS),
  *(LOADER, SOURCE, TIMEZONE, EXPORT_DTYPE, FORMAT, OVERWRITE, CARD, VOCABULARY, STATISTICS),
  *(DISTRIBUTED, COORDINATOR, NUM_PROCESSES, PROCESS_ID),
)


def main(argv: Sequence[str]) -> None:
  """Runs --mode in this process, which joins the others of the run."""
  if len(argv) > 1:
    raise ConfigError(f"unexpected argument {argv[1]!r}; flags start with --")
  arguments = _arguments()
  commands.check_flags(arguments)
  # Importing jax takes seconds, so it waits until the flags are known to be right.
  from aim.runtime import compile_cache, compile_time, heap, jax_settings, processes, xla_alarms
  from aim.training import checkpoint

  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)  # app.run has set INFO, and JAX tells which accelerators there are not
    xla_alarms.hide_alarms()
    checkpoint.hide_orbax_noise()
  heap.share_arenas()
  jax_settings.check()
  compile_cache.use()
  processes.initialize(DISTRIBUTED.value, COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
  if processes.is_first_process():
    compile_time.report_slow_compiling()
  with processes.exit_on_lost_process():
    commands.run(arguments)


def _own_config() -> ml_collections.ConfigDict | None:
  if CONFIG.value is None:
    return None
  return commands.own_config(CONFIG.value, f"--config={config_flags.get_config_filename(flags.FLAGS[CONFIG.name])}")


def _arguments() -> commands.Arguments:
  return commands.Arguments(
    mode=MODE.value,
    config=_own_config(),
    workdir=WORKDIR.value,
    checkpoint=CHECKPOINT.value or WORKDIR.value,
    data=DATA.value,
    data_dir=DATA_DIR.value,
    split=SPLIT.value,
    input=INPUT.value,
    workdirs=WORKDIRS.value,
    topology=TOPOLOGY.value,
    forms=FORMS.value,
    chips=CHIPS.value,
    loader=LOADER.value,
    output=OUTPUT.value,
    export_dtype=EXPORT_DTYPE.value,
    format=FORMAT.value,
    overwrite=OVERWRITE.value,
    card=CARD.value,
    vocabulary=VOCABULARY.value,
    statistics=STATISTICS.value,
    source=SOURCE.value,
    timezone=TIMEZONE.value,
    given=frozenset(holder.name for holder in _FLAGS if flags.FLAGS[holder.name].present),
    overrides={} if CONFIG.value is None else config_flags.get_override_values(flags.FLAGS["config"]),
  )


def run(argv: Sequence[str] | None = None) -> None:
  """Runs the program. A mistake that the user can mend ends as one line on stderr and exit code 2."""
  code = streams.exit_code(functools.partial(_run, argv))
  if code:
    _leave(code)


def _run(argv: Sequence[str] | None) -> None:
  """Runs app.run, then flushes standard output, so that a full disk is noticed here."""
  try:
    app.run(main, argv=list(argv) if argv is not None else None, flags_parser=_parse)
  except SystemExit as end:
    if not end.code:
      sys.stdout.flush()
    raise
  sys.stdout.flush()


def _leave(code: int) -> NoReturn:
  if "aim.runtime.processes" in sys.modules:  # otherwise the flags were wrong and no process has been joined
    from aim.runtime import processes

    processes.exit_process(code)
  sys.exit(code)


def _help() -> str:
  lines = ["python -m aim.main --mode=MODE --config=NAME --workdir=FOLDER [--config.key=value ...]", ""]
  lines += [commands.help_text(), "", "Flags:"]
  for flag in (flags.FLAGS[holder.name] for holder in _FLAGS):
    default = f" [{str(flag.default_as_str).strip(chr(39))}]" if flag.default else ""
    meaning = flag.help if flag.name != "mode" else "One of the above."  # absl's text repeats their names
    lines.append(f"  --{flag.name + '=':<15} {meaning}{default}")
  lines += ["", f"Shipped experiments for --config: {', '.join(config_files.shipped())}."]
  lines += [
    "Every key of a config is a flag, as in --config.batch_size=64; docs/modes.md and docs/configs.md say more."
  ]
  return "\n".join(lines)


def _parse(arguments: list[str]) -> list[str]:
  """absl's parsing, after turning names of experiments into files and naming the nearest key of a mistyped one."""
  if any(argument in HELP for argument in arguments[1:]):
    print(_help())
    sys.exit(0)
  arguments = list(arguments)
  flag_names = [argument.lstrip("-") if argument.startswith("-") else "" for argument in arguments]
  keys = [name.split("=", 1)[0].removeprefix("config.") for name in flag_names if name.startswith("config.")]
  for i, name in enumerate(flag_names):
    # Both spellings: --config=NAME and --config NAME.
    if name.startswith("config="):
      experiment = name.removeprefix("config=")
      arguments[i] = f"--config={config_files.find(experiment)}"
    elif name == "config" and i + 1 < len(arguments):
      experiment = arguments[i + 1]
      arguments[i + 1] = str(config_files.find(experiment))
    else:
      continue
    config_files.check_keys(config_files.load(experiment), keys)
  try:
    return flags.FLAGS(arguments)
  except (TypeError, ValueError) as error:
    raise ConfigError(f"command line: {str(error).splitlines()[0]}") from None


if __name__ == "__main__":
  run()
