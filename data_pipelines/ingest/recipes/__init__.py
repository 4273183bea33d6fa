"""Recipes that are shipped, by name: openmhc is openmhc.yaml in this folder."""

import pathlib

from data_pipelines.ingest.gridding.recipe import Recipe

_FOLDER = pathlib.Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load(recipe: str) -> Recipe:
  """A shipped recipe by its name, or the recipe in a YAML file.

  Raises:
    SchemaError: the file is not a recipe; the message names the file and the key.
  """
  return Recipe.load(_FOLDER / f"{recipe}.yaml" if recipe in NAMES else recipe)
