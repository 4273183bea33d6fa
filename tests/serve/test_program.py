"""The program: started as a process, asked over HTTP, and stopped by a signal; mistakes in its flags."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from aim.inference import loading
from tests import tiny


def start(*flags, **environ):
  command = [sys.executable, "-m", "aim.serve", *flags]
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
  return subprocess.Popen(command, cwd=tiny.ROOT, env=tiny.environment() | environ, **pipes)


def answered(port: int, path: str):
  connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
  connection.request("GET", path)
  content = json.loads(connection.getresponse().read())
  connection.close()
  return content


def is_open(port: int) -> bool:
  with socket.socket() as probe:
    return probe.connect_ex(("127.0.0.1", port)) == 0


def failing(*flags, **environ) -> str:
  """The line of a start that fails."""
  process = start(*flags, **environ)
  out, err = process.communicate(timeout=120)
  assert (process.returncode, out) == (2, ""), err
  return err.splitlines()[-1].removeprefix("error: ")


def test_a_service_from_start_to_stop(checkpoint):
  process = start(f"--checkpoint={checkpoint}", "--port=0", "--batch_size=4", "--functions=embed")
  try:
    line = process.stdout.readline()
    port = int(re.fullmatch(r"serving .* on http://127\.0\.0\.1:(\d+) \(\d+ programs ready in \d+ s\)\n", line)[1])
    values = tiny.arrays(people=2)["values"]
    body = {"days": [[[None if np.isnan(x) else float(x) for x in step] for step in day] for day in values]}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/embed", json.dumps(body), {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    np.testing.assert_allclose(answer["embeddings"], loading.load(checkpoint).embed(values), rtol=1e-5, atol=1e-5)
    connection.request("POST", "/impute", json.dumps(body))
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())) == (404, {"error": "/impute is not served, expected /embed"})
    connection.request("GET", "/health")
    assert json.loads(connection.getresponse().read())["status"] == "ok"
    # A request that is on its way when the service is stopped is answered.
    raw = json.dumps(body).encode()
    connection.putrequest("POST", "/embed")
    connection.putheader("Content-Length", str(len(raw)))
    connection.endheaders(raw[:100])
    while not answered(port, "/health")["requests"]:
      pass
    process.send_signal(signal.SIGTERM)
    while is_open(port):
      pass
    connection.send(raw[100:])
    assert json.loads(connection.getresponse().read()) == answer
    connection.close()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "stopped\n"), err
    assert "Traceback" not in err
  finally:
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ((), "--checkpoint=... is missing: a workdir, an exported folder"),
    (("--checkpoint=x", "--port=99999"), "flag --port=99999: 99999 is not an integer in the range [0, 65535]"),
    (("--checkpoint=x", "--max_megabytes=inf"), "--max_megabytes=inf: expected a finite number"),
    (("--checkpoint=x", "--wait_ms=nan"), "--wait_ms=nan: expected a finite number"),
    (("--checkpoint=x", "--functions=embed,score"), "--functions=embed,score: expected some of embed, impute"),
    (("--checkpoint=x", "--nonsense=1"), "Unknown command line flag 'nonsense'"),
    (("--checkpoint=x", "serve"), "unexpected argument 'serve'; flags start with --"),
    (("--checkpoint=x", "--host=192.0.2.1"), "--host=192.0.2.1 --port=8000: Cannot assign requested address"),
    (("--checkpoint=lsm2-nonsense", "--port=0"), "lsm2-nonsense: no such folder; expected a workdir, a checkpoint"),
  ],
  ids=str,
)
def test_mistakes_in_flags(flags, message):
  assert message in failing(*flags)


def test_a_port_that_is_taken_is_told_before_the_model_is_loaded():
  with socket.create_server(("127.0.0.1", 0)) as taken:
    port = taken.getsockname()[1]
    message = failing("--checkpoint=lsm2-nonsense", f"--port={port}")
  assert message == f"--host=127.0.0.1 --port={port}: Address already in use"


def test_a_missing_package_is_told_before_anything_is_loaded(tmp_path):
  """None of the extra's packages can be found, nor is jax asked for."""
  (tmp_path / "sitecustomize.py").write_text("""
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("starlette", "jax") else real(name, *rest)
sys.modules["jax"] = None
""")
  path = f"{tmp_path}{os.pathsep}{tiny.environment().get('PYTHONPATH', tiny.ROOT)}"
  message = failing("--checkpoint=lsm2-watch-xs", PYTHONPATH=path)
  assert message == "python -m aim.serve needs the package starlette: pip install 'lsm2-aim[serve]'"


def test_help_answers_at_once():
  process = start("--help")
  out, err = process.communicate(timeout=60)
  assert process.returncode == 0, err
  for flag in ("checkpoint", "host", "port", "functions", "batch_size", "max_days", "max_megabytes", "max_requests"):
    assert f"--{flag}=" in out
