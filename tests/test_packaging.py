"""Dependencies are declared once and in the right place, the distributions are whole, and nothing names a machine."""

from __future__ import annotations

import ast
import email
import functools
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aim import weights

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("aim", "data_pipelines", "experiments")

# Distributions of extras, which need not be installed here, whose import name is another.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "apache_beam": "apache-beam"}

FORBIDDEN = re.compile(
  r"(?<![\w.])/(work|root|home/\w+|tmp/venv|opt/wheels|opt/pypi)/"  # a path of one machine
  r"|\b(pypi\.org|pythonhosted\.org|registry\.npmjs\.org|proxy\.golang\.org|deb\.debian\.org)\b"  # a registry's host
  r"|--(extra-)?index-url|--find-links|--trusted-host"
)


@functools.cache
def tracked() -> tuple[str, ...]:
  """Paths of the repository's files, new ones that git does not ignore included."""
  if not (ROOT / ".git").exists():
    pytest.skip("not a git checkout")
  listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
  names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
  return tuple(name for name in names if name and (ROOT / name).is_file())


@functools.cache
def declared() -> dict:
  """The arguments that setup.py gives to setuptools.setup."""
  given: dict = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(setuptools, "setup", given.update)
    patch.chdir(ROOT)
    exec(compile((ROOT / "setup.py").read_text(), "setup.py", "exec"), {"__file__": str(ROOT / "setup.py")})
  return given


def names(requirements: list[str]) -> set[str]:
  return {canonicalize_name(Requirement(requirement).name) for requirement in requirements}


def imports(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
  """Absolute imports as (top-level name, line, whether at import time of the module)."""
  functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
  lazy = {node for function in ast.walk(tree) if isinstance(function, functions) for node in ast.walk(function)}
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from ((alias.name.split(".")[0], node.lineno, node not in lazy) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
      yield str(node.module).split(".")[0], node.lineno, node not in lazy


def package_imports() -> Iterator[tuple[str, str, bool]]:
  """All imports of the packages as (place, top-level name, whether at import time)."""
  for path in tracked():
    if path.split("/")[0] in PACKAGES and path.endswith(".py"):
      for name, line, eager in imports(ast.parse((ROOT / path).read_text())):
        yield f"{path}:{line}", name, eager


def test_dependencies_are_declared_once():
  assert not [path for path in tracked() if re.search(r"requirements[^/]*\.(txt|in)$|(^|/)setup\.cfg$", path)]
  assert not re.search(r"^\[project|^dependencies", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def test_every_import_is_declared():
  required = names(declared()["install_requires"])
  optional = set().union(*(names(extra) for extra in declared()["extras_require"].values()))
  installed = importlib.metadata.packages_distributions()
  undeclared = []
  for place, name, eager in package_imports():
    if name in sys.stdlib_module_names or name in PACKAGES:
      continue
    owners = {canonicalize_name(owner) for owner in installed.get(name, [DISTRIBUTIONS.get(name, name)])}
    if not owners & (required if eager else required | optional):
      undeclared.append(
        f"{place}: {name} is not in install_requires" + " (extras are imported inside functions)" * eager
      )
  assert not undeclared


def test_data_pipelines_knows_nothing_of_aim():
  assert not [place for place, name, _ in package_imports() if name == "aim" and place.startswith("data_pipelines/")]


def test_constraints_pin_what_setup_asks_for():
  """Every direct dependency has a pin, which its declared range admits; no pin says where a package comes from."""
  lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
  pins = [Requirement(line) for line in lines]
  assert not [pin.name for pin in pins if pin.url or not re.fullmatch(r"==[\w.]+", str(pin.specifier))]
  versions = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in pins}
  for requirement in map(Requirement, declared()["install_requires"] + declared()["extras_require"]["dev"]):
    name = canonicalize_name(requirement.name)
    if name != "setuptools":  # `pip freeze` leaves it out
      assert name in versions, f"{name} has no pin: `make constraints`"
      assert requirement.specifier.contains(versions[name]), f"{name} is pinned to {versions[name]}, not {requirement}"


def test_importing_the_packages_leaves_tensorflow_alone(tmp_path):
  """TensorFlow is importable in the child process, and still no module of the packages imports it."""
  (tmp_path / "tensorflow").mkdir()
  (tmp_path / "tensorflow" / "__init__.py").touch()
  paths = [path for path in tracked() if path.split("/")[0] in PACKAGES and path.endswith(".py")]
  modules = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in paths]
  modules = [module for module in modules if not module.endswith("__main__")]
  assert set(PACKAGES) <= set(modules)
  script = f"""
import importlib, sys
sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]
for module in {modules}:
  importlib.import_module(module)
  assert "tensorflow" not in sys.modules, module
"""
  done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


def test_distributions_are_whole(tmp_path):
  """The wheel is built from the source distribution and holds every tracked file of the packages, and no other."""
  pytest.importorskip("build", reason="the dev extra is not installed")
  source = tmp_path / "source"
  for path in tracked():
    (source / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / path, source / path)
  command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(source)]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr

  (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
  with tarfile.open(sdist) as archive:
    packed = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
  folders = (*PACKAGES, "launch", "tests")
  shipped = {path for path in tracked() if path.split("/")[0] in folders}
  assert not (shipped | {"LICENSE", "Makefile", "constraints.txt"}) - packed

  (wheel,) = (tmp_path / "dist").glob("*.whl")
  with zipfile.ZipFile(wheel) as archive:
    files = {name for name in archive.namelist() if ".dist-info/" not in name}
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    headers = email.message_from_bytes(archive.read(metadata))
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())
  assert files == {path for path in tracked() if path.split("/")[0] in PACKAGES}
  assert headers["Name"] == "lsm2-aim"
  assert headers["License-Expression"] == "Apache-2.0"
  assert headers["Requires-Python"] == ">=3.11"
  assert set(headers.get_all("Provides-Extra")) == set(declared()["extras_require"])


@pytest.mark.slow
def test_shipped_weights_load_from_the_wheel_by_name(tmp_path):
  """The wheel of a source tree with one more model, unpacked far from the clone."""
  pytest.importorskip("build", reason="the dev extra is not installed")
  from aim.inference.pretrained import Pretrained
  from tests.training.trained.test_exported import restored

  source, site = tmp_path / "source", tmp_path / "site"
  for path in tracked():
    if path.split("/")[0] in (*PACKAGES, "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
      (source / path).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(ROOT / path, source / path)
  Pretrained(restored()).save(source / "aim" / "weights" / "tiny-model")
  command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(source)]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  (wheel,) = (tmp_path / "dist").glob("*.whl")
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(site)
  script = "import aim; print(aim.__file__, aim.weights.names(), aim.load('tiny-model').trained_steps)"
  environ = os.environ | {"PYTHONPATH": str(site), "JAX_PLATFORMS": "cpu"}
  done = subprocess.run([sys.executable, "-c", script], cwd=site, env=environ, capture_output=True, text=True)
  shipped = tuple(sorted({*weights.names(), "tiny-model"}))
  assert done.stdout.strip() == f"{site}/aim/__init__.py {shipped} 6", done.stdout + done.stderr


def test_licence_is_the_full_apache_text():
  text = (ROOT / "LICENSE").read_text()
  assert "Version 2.0, January 2004" in text
  assert "END OF TERMS AND CONDITIONS" in text
  assert "Copyright 2026 The lsm2-aim authors" in text


def test_nothing_names_a_machine_or_a_registry():
  offenders = []
  for path in tracked():
    raw = (ROOT / path).read_bytes()
    if path == "tests/test_packaging.py" or b"\0" in raw:
      continue
    for number, line in enumerate(raw.decode().splitlines(), 1):
      if match := FORBIDDEN.search(line):
        offenders.append(f"{path}:{number}: {match[0]}")
  assert not offenders
