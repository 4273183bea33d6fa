"""The public names of `import aim` and of the rooms that load theirs lazily."""

import importlib
import subprocess
import sys

import pytest

ROOMS = ("aim", "aim.common", "aim.inference", "aim.training")


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_exists(room: str):
  module = importlib.import_module(room)
  for name in module.__all__:
    assert hasattr(module, name), name
  with pytest.raises(AttributeError, match=f"module '{room}' has no attribute 'nonsense'"):
    _ = module.nonsense


def test_importing_the_rooms_does_not_import_jax():
  """It takes seconds, and configs import some of these rooms while flags are parsed."""
  code = f"import sys, {', '.join(ROOMS)}; sys.exit('jax' in sys.modules)"
  subprocess.run([sys.executable, "-c", code], check=True)
