"""Model cards: what is known is in them, what nobody stated is said to be unstated, and facts are checked."""

import json

import pytest
import yaml

from aim.common.config_files import ConfigError
from aim.inference import model_card
from tests.training.trained.test_exported import restored

FACTS = {
  "title": "Watch",
  "summary": "A small one.",
  "licence": "Apache-2.0",
  "citation": "Doe 2026",
  "data": [{"name": "study|1", "people": 1200, "days": 9000, "terms": "CC BY 4.0"}],
  "not_for": ["People under 18"],
  "notes": "Be kind.",
}


def test_a_card_of_everything():
  text = model_card.text(restored(), "float16", FACTS, "5 people, 10 days.", "the scores")
  front, body = text.removeprefix("---\n").split("\n---\n", 1)
  assert yaml.safe_load(front)["license"] == "apache-2.0"
  assert body.lstrip().startswith("# Watch\n\nA small one.\n")
  for line in (
    "24 steps of 60 minutes",
    "| pulse | bpm | 60.1 | 7.3 | 40 | 80 |",
    "| asleep | 0 or 1 | 0.5 |",
    "Dataset `tiny`, content 11111111111111111111111111111111. 5 people, 10 days.",
    "| study\\|1 | 1,200 | 9,000 | CC BY 4.0 | not stated |",
    "stored in float16; the moving average of training (decay 0.9).",
    "6 steps of 4 days each",
    "the scores",
    "- People under 18",
    "no medical device",
    "Be kind.",
    "Doe 2026",
  ):
    assert line in body, line


def test_what_nobody_stated():
  text = model_card.text(restored(), "float32", {})
  assert "license:" not in text
  for line in (
    "Not stated by those who exported it",
    "Terms of the data: not stated",
    "None were measured for this export",
    "# LSM-2",
  ):
    assert line in text, line


@pytest.mark.parametrize(
  ("facts", "message"),
  [
    ([1], "is a list, expected keys among title"),
    ({"license": "MIT"}, "key 'license' is unknown, expected title, summary, licence"),
    ({"licence": 3}, "licence is 3, expected text"),
    ({"not_for": "children"}, "not_for is 'children', expected a list"),
    ({"not_for": [1]}, "not_for, entry 1, is 1, expected text"),
    ({"data": [{"terms": "MIT"}]}, "data, entry 1, is {'terms': 'MIT'}, expected a name"),
    ({"data": [{"name": "x", "licence": "MIT"}]}, "expected a name, and keys among name, people, days, terms, source"),
    ({"data": [{"name": "x", "people": "ten"}]}, "data, entry 1: people is 'ten', expected a whole number"),
    ({"data": [{"name": "x", "terms": 4}]}, "data, entry 1: terms is 4, expected text"),
  ],
)
def test_facts_are_checked(facts, message, tmp_path):
  path = tmp_path / "card.yaml"
  path.write_text(json.dumps(facts))
  with pytest.raises(ConfigError) as refused:
    model_card.read_facts(path)
  assert str(refused.value).startswith(f"{path}: ") and message in str(refused.value)


@pytest.mark.parametrize(("text", "message"), [("a: [", "not YAML: "), (None, "no such file")])
def test_files_that_are_no_facts(text, message, tmp_path):
  path = tmp_path / "card.yaml"
  if text is not None:
    path.write_text(text)
  with pytest.raises(ConfigError, match=f"^{path}: .*{message}"):
    model_card.read_facts(path)
