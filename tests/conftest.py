"""Setup of every test: eight fake CPU devices, shapes checked at run time, and the folder of the sample data."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import hypothesis
import jax
import jaxtyping
import pytest
from absl import flags

ROOT = pathlib.Path(__file__).resolve().parent.parent


def quick_compilation(flags: str) -> str:
  """XLA_FLAGS with what makes compiling take a third of the time. Tests compare results, none measures speed.

  An XLA that does not know a flag ends the process, so a process of its own tries the one that may be removed, once:
  pytest's workers find it set. What the user has set stays.
  """
  quick = "xla_cpu_use_fusion_emitters"
  if quick not in flags:
    variables = os.environ | {"XLA_FLAGS": f"--{quick}=false", "JAX_PLATFORMS": "cpu"}
    ended = subprocess.run([sys.executable, "-c", "import jax; jax.devices()"], env=variables, capture_output=True)
    flags = f"--{quick}=false {flags}" if ended.returncode == 0 else flags
  return f"--xla_backend_optimization_level=0 {flags}".strip()


os.environ["XLA_FLAGS"] = quick_compilation(os.environ.get("XLA_FLAGS", ""))  # read when the first computation runs
# With an accelerator the tests still run on the CPU, subprocesses too, unless JAX_PLATFORMS says otherwise.
jax.config.update("jax_platforms", os.environ.setdefault("JAX_PLATFORMS", "cpu"))
jax.config.update("jax_num_cpu_devices", 8)

# grain's worker processes read absl flags, which no main() has parsed here.
flags.FLAGS.mark_as_parsed()

# Checks the annotations of aim, shapes included, at every call. An int may stand for a float, as it may for mypy.
jaxtyping.install_import_hook("aim", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

hypothesis.settings.register_profile(
  "local",
  deadline=None,  # the first example compiles
  max_examples=25,
  suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("ci", hypothesis.settings.get_profile("local"), derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_configure(config: pytest.Config) -> None:
  """Keeps compiled programs between runs: compiling is most of the suite's time, and a hit is the same to the bit.

  Shared by pytest's workers; an entry read while another writes it fails its checksum and is compiled again.
  """
  if not config.pluginmanager.hasplugin("cacheprovider"):
    return
  jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
  """Folder of the sample npz files: $LSM2_SHARED_DATA or ../shared/data; the test is skipped where it is absent."""
  folder = pathlib.Path(os.environ.get("LSM2_SHARED_DATA") or ROOT.parent / "shared" / "data")
  if not folder.is_dir():
    pytest.skip(f"no sample data: {folder} is not a folder; LSM2_SHARED_DATA names another")
  return folder


# The longest files, longest first. A worker takes whole files: one of these at the end would run alone.
LONGEST_FIRST = (
  "model/test_lsm2.py",
  "test_cli.py",
  "training/test_resume.py",
  "inference/test_pretrained.py",
  "training/test_masked_step.py",
  "runtime/test_processes.py",
  "evaluation/generative/test_contest.py",
  "report/test_page.py",
  "robustness/test_checkpoint_damage.py",
  "training/test_methods.py",
  "evaluation/finetuning/test_networks.py",
  "model/test_lsm1.py",
  "data_pipelines/atlas/test_page.py",
  "training/test_contrastive_step.py",
  "report/test_my_days.py",
  "model/test_masking.py",
  "training/test_starting_weights.py",
  "runtime/test_sharding.py",
  "model/attention/test_native.py",
  "test_end_to_end.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Puts the longest files first; pytest-xdist deals them out in this order (`--no-loadscope-reorder`)."""
  rank = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST_FIRST)}
  items.sort(key=lambda item: rank.get(item.path, len(rank)))
