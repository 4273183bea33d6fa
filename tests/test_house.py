"""The rules of the house, checked on syntax trees: small rooms, annotations, private members, one name each."""

from __future__ import annotations

import ast
import builtins
import collections
import functools
import pathlib
import symtable
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIBRARIES = ("aim", "data_pipelines")
FILES = sorted(
  path.relative_to(ROOT)
  for folder in (*LIBRARIES, "experiments", "benchmarks", "tests", "docs")
  for path in (ROOT / folder).rglob("*.py")
)
MOST_MODULES = 16
MANY_SOURCES = pathlib.Path("data_pipelines/ingest/importers")  # a module or two for each vendor
# Members of named tuples and of other libraries that are public, or have no public name.
NOT_PRIVATE = {"_replace", "_asdict", "_fields", "_make", "_exit", "_foreach_copy_"}


@functools.cache
def tree(path: pathlib.Path) -> ast.Module:
  return ast.parse((ROOT / path).read_text(encoding="utf-8"))


@functools.cache
def nodes(path: pathlib.Path) -> tuple[ast.AST, ...]:
  return tuple(ast.walk(tree(path)))


@functools.cache
def is_module(name: str) -> bool:
  """True if a dotted name is a module or package of the project."""
  path = ROOT / name.replace(".", "/")
  return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def imported_modules(path: pathlib.Path) -> dict[str, str]:
  """{name in the file: module} of the project's modules that a file imports by a name of their own."""
  modules = {}
  for node in nodes(path):
    if isinstance(node, ast.ImportFrom) and node.module:
      for alias in node.names:
        if is_module(f"{node.module}.{alias.name}"):
          modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    elif isinstance(node, ast.Import):
      modules |= {alias.asname: alias.name for alias in node.names if alias.asname and is_module(alias.name)}
  return modules


def bindings(path: pathlib.Path) -> Iterator[tuple[str, int]]:
  """Yields (name, line) of the variables, parameters, functions and classes of a file; members of classes are none."""
  fields = {
    id(target)
    for node in nodes(path)
    if isinstance(node, ast.ClassDef)
    for statement in node.body
    if isinstance(statement, ast.Assign | ast.AnnAssign)
    for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
  }
  methods = {
    id(member)
    for node in nodes(path)
    if isinstance(node, ast.ClassDef)
    for member in node.body
    if isinstance(member, ast.FunctionDef)
  }
  for node in nodes(path):
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields:
      yield node.id, node.lineno
    elif isinstance(node, ast.arg):
      yield node.arg, node.lineno
    elif isinstance(node, ast.FunctionDef | ast.ClassDef) and id(node) not in methods:
      yield node.name, node.lineno


def public_functions(path: pathlib.Path) -> Iterator[ast.FunctionDef]:
  """Yields the functions of a module and the methods of its classes whose names have no leading underscore."""
  bodies = [tree(path).body, *(node.body for node in tree(path).body if isinstance(node, ast.ClassDef))]
  for node in (node for body in bodies for node in body):
    if isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name in ("__init__", "__call__")):
      yield node


def unannotated(function: ast.FunctionDef) -> list[str]:
  """Names of the parameters without annotation, and "return"."""
  arguments = function.args
  parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
  names = [p.arg for p in parameters if p and p.annotation is None and p.arg not in ("self", "cls")]
  return names + ["return"] * (function.returns is None and function.name != "__init__")


def test_no_room_has_more_modules_than_one_can_survey():
  rooms: dict[pathlib.Path, int] = collections.Counter(
    path.parent for path in FILES if path.parts[0] in LIBRARIES and path.name != "__init__.py"
  )
  rooms.pop(MANY_SOURCES)
  assert not {str(room): count for room, count in rooms.items() if count > MOST_MODULES}


def test_every_room_says_what_it_is_for():
  rooms = {path.parent for path in FILES if path.parts[0] in LIBRARIES}
  assert not [str(room) for room in sorted(rooms) if not ast.get_docstring(tree(room / "__init__.py"))]


@pytest.mark.parametrize("library", LIBRARIES)
def test_public_functions_are_annotated(library):
  offenders = [
    f"{path}:{function.lineno}: {function.name} lacks {', '.join(missing)}"
    for path in FILES
    if path.parts[0] == library
    for function in public_functions(path)
    if (missing := unannotated(function))
  ]
  assert not offenders, "\n".join(offenders)


def test_docstrings_begin_with_what_a_thing_is_or_does():
  offenders = []
  for path in FILES:
    for node in nodes(path):
      if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node) or ""
        if text.split(" ")[0] in ("Of", "For", "In", "What", "Which", "Whether", "How", "Where", "When"):
          offenders.append(f"{path}: {text.splitlines()[0]}")
  assert not offenders, "\n".join(offenders)


def test_no_file_imports_a_private_name():
  offenders = [
    f"{path}:{node.lineno}: {alias.name} of {node.module}"
    for path in FILES
    for node in nodes(path)
    if isinstance(node, ast.ImportFrom) and node.module and is_module(node.module)
    for alias in node.names
    if alias.name.startswith("_")
  ]
  assert not offenders, "\n".join(offenders)


def test_no_file_reaches_a_private_member_of_another():
  """A private member may be used where it is defined; `self` and `cls` may also have one that is inherited."""
  offenders = []
  for path in FILES:
    own = {name for name, _ in bindings(path)} | {
      node.attr for node in nodes(path) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    own |= {node.name for node in nodes(path) if isinstance(node, ast.FunctionDef)}
    own |= {
      node.target.id for node in nodes(path) if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    for node in nodes(path):
      if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
        continue
      by_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
      if not by_self and node.attr not in own | NOT_PRIVATE:
        offenders.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
  assert not offenders, "\n".join(offenders)


def test_a_module_and_a_variable_never_share_a_name():
  offenders = []
  for path in FILES:
    modules = imported_modules(path)
    offenders += [f"{path}:{line}: {name} is {modules[name]}" for name, line in bindings(path) if name in modules]
  assert not offenders, "\n".join(offenders)


def test_every_name_is_defined():
  """The linters cannot check this: to them the shapes in jaxtyping's strings are undefined names."""
  offenders = []
  for path in FILES:
    table = symtable.symtable((ROOT / path).read_text(encoding="utf-8"), str(path), "exec")
    module = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    module |= {"__name__", "__file__", "__doc__", *dir(builtins)}
    names = global_names(table)
    # Annotations are not evaluated, so they are in no symbol table.
    names |= {node.id for tree in annotations(path) for node in ast.walk(tree) if isinstance(node, ast.Name)}
    offenders += [f"{path}: {name}" for name in sorted(names - module)]
  assert not offenders, "\n".join(offenders)


def global_names(table: symtable.SymbolTable) -> set[str]:
  """Names that a scope and those inside it look up in the module or among the builtins."""
  names = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced()}
  return names.union(*map(global_names, table.get_children()))


def annotations(path: pathlib.Path) -> Iterator[ast.expr]:
  """Yields the annotations of a file's parameters, results and variables."""
  for node in nodes(path):
    annotation = getattr(node, "returns", None) or getattr(node, "annotation", None)
    if annotation is not None:
      yield annotation
