"""The notebook: executed in a kernel of its own, and written with its outputs by `python -m tests.notebook`."""

import hashlib
import json
import os
import sys
import unittest.mock

import nbclient
import nbformat

from tests import tiny

PATH = tiny.ROOT / "docs" / "notebooks" / "first_days.ipynb"
KEY = "sources"  # in the notebook's metadata: of which sources the outputs are


def digest(notebook) -> str:
  sources = [cell["source"] for cell in notebook["cells"]]
  return hashlib.blake2b(json.dumps(sources).encode(), digest_size=8).hexdigest()


def executed():
  """The notebook with the outputs that it has now, without what was printed on stderr."""
  notebook = nbformat.read(PATH, 4)
  variables = {"PYTHONPATH": str(tiny.ROOT), "JAX_PLATFORMS": "cpu"}
  with unittest.mock.patch.dict(os.environ, variables):
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False).execute()
  for cell in notebook.cells:
    if cell.cell_type == "code":
      cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
  notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec",)}
  notebook.metadata[KEY] = digest(notebook)
  return notebook


if __name__ == "__main__":
  nbformat.write(executed(), PATH)
  print(f"{PATH}: {PATH.stat().st_size:,} bytes", file=sys.stderr)
