"""Two processes with gloo collectives train what one process trains: each loads its part of every global batch."""

import json
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from aim import checkpoint
from tests import tiny

# A host of a run: two devices in all, however many processes they are in.
HOST = """
import json, pathlib, sys
import jax

host, hosts, port, workdir, data, changes = sys.argv[1:]
host, hosts = int(host), int(hosts)
jax.config.update("jax_num_cpu_devices", 2 // hosts)
if hosts > 1:
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(f"localhost:{port}", hosts, host)
assert (jax.process_index(), jax.process_count(), jax.device_count()) == (host, hosts, 2)

from aim import pretrain
from data_pipelines.dataset import Dataset
from experiments import lsm2_tiny

config = lsm2_tiny.get_config()
config.update_from_flattened_dict(json.loads(changes))
last = pretrain.pretrain(config, pathlib.Path(workdir), Dataset.open(data, "tiny"))
print(json.dumps(last))
"""


CHANGES = {"checkpoint.every_steps": 3}


def train(dataset, workdir, hosts, form="textbook"):
  """Runs `hosts` processes to their end; returns the last metrics of each."""
  workdir.mkdir(exist_ok=True)
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  rest = [str(port), str(workdir), str(dataset.path.parents[2]), json.dumps(tiny.RUN | CHANGES | {"form": form})]
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", HOST, str(host), str(hosts), *rest],
      cwd=tiny.ROOT,
      env=tiny.environment(),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for host in range(hosts)
  ]
  ended = [tiny.wait(process) for process in processes]
  assert [code for code, _, _ in ended] == [0] * hosts, ended
  return [json.loads(out.splitlines()[-1]) for _, out, _ in ended]


def losses(workdir):
  """{step: loss}; every process that wrote a step must have written the same."""
  records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  found = {(record["step"], record["loss"], record["gradient_norm"]) for record in records}
  assert len(found) == len({step for step, *_ in found})
  return np.array(sorted(found))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return tiny.dataset(tmp_path_factory.mktemp("hosts"))


@pytest.fixture(scope="module")
def one(dataset, tmp_path_factory):
  """The workdir of a run of one process."""
  workdir = tmp_path_factory.mktemp("one")
  train(dataset, workdir, 1)
  assert losses(workdir)[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
  return workdir


def same_parameters(workdir, one):
  """Together the hosts wrote one checkpoint, which one process reads."""
  ours, theirs = checkpoint.read(workdir), checkpoint.read(one)
  assert ours.step == theirs.step == 6
  assert ours.params.keys() == theirs.params.keys()
  for name, array in ours.params.items():
    np.testing.assert_allclose(np.asarray(array), np.asarray(theirs.params[name]), rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("form", ["textbook", "packed"])
def test_two_hosts_are_one(dataset, one, tmp_path, form):
  """Buffers of another form, whose size both must choose alike, included."""
  last = train(dataset, tmp_path, 2, form)
  assert last[0]["loss"] == last[1]["loss"]
  np.testing.assert_allclose(losses(tmp_path), losses(one), rtol=1e-5)
  same_parameters(tmp_path, one)


def test_a_run_goes_on_with_another_number_of_hosts(dataset, one, tmp_path):
  workdir = shutil.copytree(one, tmp_path / "grown")
  shutil.rmtree(workdir / "checkpoints" / "6")
  (workdir / "metrics.jsonl").unlink()
  train(dataset, workdir, 2)
  np.testing.assert_allclose(losses(workdir), losses(one)[3:], rtol=1e-5)
  same_parameters(workdir, one)
