"""Serves a trained model: python -m aim.serve --checkpoint=PATH_OR_NAME [--port=8000] [--host=127.0.0.1]."""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

from absl import app, flags, logging

from aim.common.config_files import ConfigError
from aim.common.versions import installed_version
from data_pipelines import streams

FUNCTIONS = ("embed", "impute")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Trained model: whatever aim.load takes.")
HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 for all of this machine.")
PORT = flags.DEFINE_integer("port", 8000, "Port to listen on; 0 for a free one.", lower_bound=0, upper_bound=65535)
SERVED = flags.DEFINE_list("functions", list(FUNCTIONS), "What to serve; fewer start sooner.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Days that each device computes at a time.", lower_bound=1)
WAIT_MS = flags.DEFINE_float("wait_ms", 2, "How long days wait for others, in ms.", lower_bound=0, upper_bound=10_000)
MAX_DAYS = flags.DEFINE_integer("max_days", 256, "Most days in a request.", lower_bound=1)
MAX_MEGABYTES = flags.DEFINE_float("max_megabytes", 64, "Largest body of a request.", lower_bound=0.001)
MAX_REQUESTS = flags.DEFINE_integer("max_requests", 64, "Most requests in work at a time.", lower_bound=1)
VOCABULARY = flags.DEFINE_string("vocabulary", None, "YAML file of own channels and names, for days of other channels.")

_FLAGS = (
  *(CHECKPOINT, HOST, PORT, SERVED, BATCH_SIZE, WAIT_MS),
  *(MAX_DAYS, MAX_MEGABYTES, MAX_REQUESTS, VOCABULARY),
)
_EXTRA = ("starlette", "uvicorn", "orjson")
_HELP = ("--help", "-help", "-h", "--helpshort", "-?")


def main(argv: Sequence[str]) -> None:
  """Loads and compiles, then answers requests until SIGTERM or SIGINT."""
  if len(argv) > 1:
    raise ConfigError(f"unexpected argument {argv[1]!r}; flags start with --")
  trained = _check_flags()
  listener = _bound(HOST.value, PORT.value)
  # Importing jax takes seconds, so it waits until the flags are known to be right.
  import uvicorn

  from aim.runtime import compile_cache, xla_alarms
  from aim.serve.application import Limits, Service
  from aim.serve.batched_model import load

  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)
    xla_alarms.hide_alarms()
  compile_cache.use()
  model = load(trained, BATCH_SIZE.value, WAIT_MS.value / 1000, VOCABULARY.value)
  if "embed" not in SERVED.value and not model.has_decoder:
    raise ConfigError(f"--functions=impute: {model.name} has no decoder, it makes embeddings alone")
  began = time.monotonic()
  programs = model.compile_all(SERVED.value)
  limits = Limits(MAX_DAYS.value, math.ceil(MAX_MEGABYTES.value * 1e6), MAX_REQUESTS.value)
  service = Service(model, limits, SERVED.value, installed_version("lsm2-aim"))
  options = uvicorn.Config(
    service.application(), lifespan="off", log_level="warning", access_log=False, server_header=False
  )
  # uvicorn stops on these, finishes what is in work, and then raises them again for whoever handled them before.
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: None)
  listener.listen(128)  # until here a client is refused, and does not wait
  host, port = listener.getsockname()[:2]
  print(
    f"serving {model.name} on http://{f'[{host}]' if ':' in host else host}:{port} "
    f"({programs} programs ready in {time.monotonic() - began:.0f} s)",
    flush=True,
  )
  uvicorn.Server(options).run(sockets=[listener])
  print("stopped", flush=True)


def _check_flags() -> str:
  """The trained model, once all is checked that can be checked before anything is loaded.

  Raises:
    ConfigError: a flag is missing or wrong, or a package of the extra is not installed.
  """
  missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
  if missing:
    raise ConfigError(f"python -m aim.serve needs the package {missing[0]}: pip install 'lsm2-aim[serve]'")
  if not CHECKPOINT.value:
    raise ConfigError("--checkpoint=... is missing: a workdir, an exported folder, hf://owner/name, or a shipped name")
  for flag in (WAIT_MS, MAX_MEGABYTES):
    if not math.isfinite(flag.value):  # NaN passes every bound
      raise ConfigError(f"--{flag.name}={flag.value}: expected a finite number")
  unknown = [name for name in SERVED.value if name not in FUNCTIONS]
  if unknown or not SERVED.value:
    raise ConfigError(f"--functions={','.join(SERVED.value)}: expected some of {', '.join(FUNCTIONS)}")
  return CHECKPOINT.value


def _bound(host: str, port: int) -> socket.socket:
  """A socket at this address, which does not listen yet.

  Raises:
    ConfigError: the address is taken, or not of this machine.
  """
  try:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
  except OSError as error:
    raise ConfigError(f"--host={host} --port={port}: {error.strerror or error}") from None
  return listener


def _help() -> str:
  lines = [(__doc__ or "").strip(), "", "Flags:"]
  for flag in (flags.FLAGS[holder.name] for holder in _FLAGS):
    default = f" [{str(flag.default_as_str).strip(chr(39))}]" if flag.default not in (None, "") else ""
    lines.append(f"  --{flag.name + '=':<15} {flag.help}{default}")
  return "\n".join([*lines, "", "docs/serve.md says what is served."])


def _parse(arguments: list[str]) -> list[str]:
  if any(argument in _HELP for argument in arguments[1:]):
    print(_help())
    sys.exit(0)
  try:
    return flags.FLAGS(arguments)
  except (TypeError, ValueError) as error:
    raise ConfigError(f"command line: {str(error).splitlines()[0]}") from None


def run(argv: Sequence[str] | None = None) -> None:
  """Runs the program. A mistake that the user can mend ends as one line on stderr and exit code 2."""
  program = functools.partial(app.run, main, argv=list(argv) if argv is not None else None, flags_parser=_parse)
  code = 0
  try:
    code = streams.exit_code(program)
  except SystemExit as end:
    code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
  streams.flush_all()
  os._exit(code)  # threads that compute for clients who are gone are not waited for


if __name__ == "__main__":
  run()
