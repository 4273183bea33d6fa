"""Settings of JAX that would change results in silence are refused by the command line and by aim.load."""

import os
import subprocess
import sys

import jax
import pytest

import aim
from aim.runtime import jax_settings
from data_pipelines.errors import UserError
from tests import tiny

OTHERS = {
  "jax_enable_x64": (True, "1"),
  "jax_threefry_partitionable": (False, "0"),
  "jax_default_prng_impl": ("rbg", "rbg"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_program_with_another_setting_is_refused(name, monkeypatch):
  monkeypatch.setattr(jax_settings, "NEEDED", {name: OTHERS[name][0]})
  with pytest.raises(UserError, match=f"JAX's setting {name} is .*: unset {name.upper()}, or"):
    aim.load("lsm2-watch-xs")
  monkeypatch.setattr(jax_settings, "NEEDED", {name: getattr(jax.config, name)})
  jax_settings.check()


@pytest.mark.parametrize("name", OTHERS)
def test_an_environment_with_another_setting_is_refused(name):
  program = "from aim.runtime import jax_settings; jax_settings.check()"
  environment = {**os.environ, name.upper(): OTHERS[name][1]}
  arguments = [sys.executable, "-c", program]
  ended = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tiny.ROOT, env=environment)
  assert ended.returncode == 1 and f"UserError: JAX's setting {name} is" in ended.stderr
