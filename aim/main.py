"""The command line: python -m aim.main --config=experiments/X.py --workdir=DIR --mode=MODE [--config.key=value ...]."""

from __future__ import annotations

import pathlib
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from aim.common import config_files
from aim.common.config_files import ConfigError
from data_pipelines.errors import UserError

# Need --config and --workdir; those of the same name in aim/commands.py.
CONFIG_MODES = ("pretrain", "evaluate", "heldout", "probe", "finetune", "robustness", "compare", "scaling")
MODES = (*CONFIG_MODES, "preflight", "scale_out", "embed", "impute", "report")
TOGETHER = ("pretrain", "evaluate", "heldout", "embed")  # modes that several processes share the work of

CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment config, such as experiments/lsm2_base.py.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run: checkpoints, config.json, metrics, results.")
MODE = flags.DEFINE_enum("mode", "pretrain", MODES, "What to do.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Trained model (a workdir or a checkpoint); default: --workdir.")
DATA = flags.DEFINE_string("data", None, "embed: a dataset's name, or an npz file of days.")
DATA_DIR = flags.DEFINE_string("data_dir", "data", "embed: the folder of datasets that --data names one of.")
SPLIT = flags.DEFINE_string("split", "all", "embed: pretrain, tune, eval or all days of the dataset.")
INPUT = flags.DEFINE_string("input", None, "impute: npz file of days with holes.")
WORKDIRS = flags.DEFINE_list("workdirs", [], "report, scale_out: other workdirs to put beside --workdir.")
TOPOLOGY = flags.DEFINE_string("topology", None, "preflight: v5e:8x16, v5p:2x2x4, v6e:8x8, h100:8, ..., local.")
CHIPS = flags.DEFINE_list("chips", ["8", "16", "32", "64", "128", "256"], "scale_out: of the slices.")
LOADER = flags.DEFINE_float("loader", 2002.0, "scale_out: windows/s that a host reads (benchmarks/loader.py measures).")
OUTPUT = flags.DEFINE_string("output", None, "embed: .parquet or .npz to write; impute: .npz to write.")

# Several processes, one a host or a GPU: every one of them is started with the same command (aim/runtime/processes.py).
DISTRIBUTED = flags.DEFINE_enum(
  "distributed", "auto", ("auto", "on", "off"), "Several processes: auto, where Cloud TPU, GKE or Slurm tells of them."
)
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where nothing else tells.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Of the run, with --coordinator.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "This one of --num_processes, from 0.", lower_bound=0)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise ConfigError(f"unexpected argument {argv[1]!r}; flags start with --")
  # Importing jax takes seconds: only once the flags are known to be right.
  from aim import commands
  from aim.runtime import processes

  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)  # libraries turn it up when they are imported
  commands.use_compile_cache()
  processes.initialize(DISTRIBUTED.value, COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
  with processes.exit_on_lost_process():
    _run_mode()


def _run_mode() -> None:
  from aim import commands
  from aim.inference.commands import embed, impute
  from aim.runtime import processes

  if MODE.value not in TOGETHER and processes.is_multi_process():
    raise ConfigError(f"--mode={MODE.value} is for one process, and there are others; run it alone: --distributed=off")
  if MODE.value in CONFIG_MODES:
    config, workdir = _required("config", CONFIG.value), pathlib.Path(_required("workdir", WORKDIR.value))
    if MODE.value == "pretrain":  # which may refuse to go on in this folder
      workdir.mkdir(parents=True, exist_ok=True)
    else:
      commands.open_workdir(workdir, config)
    getattr(commands, MODE.value)(config, workdir, CHECKPOINT.value or workdir)
    return
  if MODE.value == "preflight":
    commands.preflight(_required("config", CONFIG.value), WORKDIR.value, _required("topology", TOPOLOGY.value))
    return
  if MODE.value == "scale_out":
    commands.scale_out(_required("workdir", WORKDIR.value), WORKDIRS.value, CHIPS.value, LOADER.value)
    return
  if MODE.value == "report":  # without --config the workdir's own config.json is read
    workdir = pathlib.Path(_required("workdir", WORKDIR.value))
    commands.report(CONFIG.value, workdir, CHECKPOINT.value or workdir, WORKDIRS.value)
    return
  trained = CHECKPOINT.value or WORKDIR.value
  output = _required("output", OUTPUT.value)
  if MODE.value == "embed":
    embed(_required("checkpoint", trained), _required("data", DATA.value), DATA_DIR.value, SPLIT.value, output)
  else:
    impute(_required("checkpoint", trained), _required("input", INPUT.value), output)


def run(argv: Sequence[str] | None = None) -> None:
  """Runs the program; whatever the user can mend ends as one line on stderr and exit code 2."""
  try:
    app.run(main, argv=list(argv) if argv is not None else None, flags_parser=_parse)
  except (UserError, flags.Error) as error:
    _fail(str(error))
  except OSError as error:  # a folder that cannot be written, a full disk
    _fail(": ".join(str(part) for part in (error.filename, error.strerror) if part) or str(error))
  except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    _leave(128 + signal.SIGINT)
  except Exception:
    traceback.print_exc()
    _leave(1)


def _fail(message: str) -> NoReturn:
  print(f"error: {' '.join(message.split())}", file=sys.stderr)
  _leave(2)


def _leave(code: int) -> NoReturn:
  if "aim.runtime.processes" in sys.modules:  # else the flags were wrong, and nothing has begun
    from aim.runtime import processes

    processes.exit_process(code)
  sys.exit(code)


def _required(flag: str, value: Any) -> Any:
  if value is None:
    raise ConfigError(f"--mode={MODE.value} needs --{flag}=...")
  return value


def _parse(args: list[str]) -> list[str]:
  """absl's parsing, after naming the nearest key of a mistyped --config.key."""
  names = [arg.lstrip("-") if arg.startswith("-") else "" for arg in args]
  # Both spellings: --config=FILE and --config FILE.
  paths = [name.removeprefix("config=") for name in names if name.startswith("config=")]
  paths += [args[i + 1] for i, name in enumerate(names[:-1]) if name == "config"]
  keys = [name.split("=", 1)[0].removeprefix("config.") for name in names if name.startswith("config.")]
  for path in paths:
    config_files.check_keys(config_files.load(path), keys)
  try:
    return flags.FLAGS(args)
  except (TypeError, ValueError) as error:
    raise ConfigError(f"command line: {str(error).splitlines()[0]}") from None


if __name__ == "__main__":
  run()
