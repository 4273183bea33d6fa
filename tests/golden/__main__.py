"""Rewrites the golden files: python -m tests.golden"""

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

from tests import golden  # noqa: E402 after the devices are set

for file in golden.FILES:
  changed = golden.difference(file)
  (golden.FOLDER / file).write_text(golden.current(file))
  print(f"{file}: {'changed' if changed else 'unchanged'}")
for path in golden.FOLDER.glob("*.*"):
  if path.suffix in (".json", ".txt") and path.name not in golden.FILES:
    path.unlink()
    print(f"{path.name}: removed, its experiment is gone")
