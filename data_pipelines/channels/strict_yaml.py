"""YAML that people write: plain values only, and nothing in it is dropped without a word."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any

import yaml

from data_pipelines.errors import SchemaError


class _Loader(yaml.SafeLoader):
  """YAML's safe loader, but aliases are errors, as are repeated keys, of which YAML would silently keep the last."""

  def construct_mapping(self, node: Any, deep: bool = False) -> dict:
    keys = [key.value for key, _ in node.value]
    for key in keys:
      if keys.count(key) > 1:
        raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears more than once", node.start_mark)
    return super().construct_mapping(node, deep)

  def compose_node(self, parent: Any, index: Any) -> Any:
    if self.check_event(yaml.AliasEvent):
      raise yaml.composer.ComposerError(None, None, "YAML's aliases are not allowed", self.peek_event().start_mark)
    return super().compose_node(parent, index)


def parse_yaml(text: str, where: str, expected: str) -> dict[str, Any]:
  """Parses a YAML mapping.

  Args:
    text: the YAML.
    where: names it in messages.
    expected: a key that such a text has, for the message about one that is no mapping.

  Raises:
    SchemaError: it is not YAML, repeats a key, has an alias, or is no mapping; the message names the line.
  """
  try:
    raw = yaml.load(text, Loader=_Loader)  # a SafeLoader, which builds only plain values
  except (yaml.YAMLError, RecursionError, ValueError) as error:
    mark = getattr(error, "problem_mark", None)
    line = f" line {mark.line + 1}" if mark else ""
    raise SchemaError(f"{where}:{line} not YAML: {getattr(error, 'problem', None) or type(error).__name__}") from None
  if not isinstance(raw, dict):
    raise SchemaError(f"{where}: expected keys such as {expected!r}, found {type(raw).__name__}")
  return raw


def nearest(name: str, known: Collection[str]) -> str:
  """A hint about an unknown name: the known one that is nearest to it or, if none is near, all of them."""
  near = difflib.get_close_matches(name, list(known), 1, 0.5)
  return f"the nearest is {near[0]!r}" if near else f"known names are {', '.join(sorted(known))}"
