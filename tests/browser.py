"""A page as a reader sees it: its outline, and what a headless Chromium finds wrong with it."""

from __future__ import annotations

import html
import html.parser
import json
import re
import shutil
import subprocess
import types

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Outline(html.parser.HTMLParser):
  """Tags with their attributes, ids, and for each figure its text and its table cells."""

  def __init__(self, text: str):
    super().__init__()
    self.tags: list[str] = []
    self.attributes: list[dict] = []
    self.figures: list[dict] = []
    self.captions: dict[str, str] = {}
    self._open: list[str] = []
    self._caption = None
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    attributes = dict(attrs)
    self.tags.append(tag)
    self.attributes.append(attributes)
    if tag == "figure":
      self.figures.append({"id": attributes["id"], "cells": 0, "svg": []})
      self._open.append(tag)
    elif self._open and tag in ("td", "th"):
      self.figures[-1]["cells"] += 1
    elif self._open and tag == "svg":
      self.figures[-1]["svg"].append(attributes)
    elif tag == "figcaption":
      self._caption = attributes["id"]

  def handle_endtag(self, tag):
    if tag == "figure":
      self._open.pop()
    if tag == "figcaption":
      self._caption = None

  def handle_data(self, data):
    if self._caption:
      self.captions[self._caption] = self.captions.get(self._caption, "") + data


# Leaves what it finds at the frame around the page, where --dump-dom shows it.
PROBE = """<script>
const faults = [];
addEventListener("error", event => faults.push(event.message || "cannot load " + event.target.src), true);
addEventListener("load", () => {
  const root = document.documentElement;
  const wide = [...document.querySelectorAll("body *")].filter(each => each.getBoundingClientRect().right > innerWidth
    && !each.closest(".scroll, pre, code, svg"));
  parent.document.documentElement.dataset.found = JSON.stringify({
    faults, width: innerWidth, overflow: root.scrollWidth - innerWidth,
    wide: wide.map(each => each.tagName).slice(0, 5),
    loaded: performance.getEntriesByType("resource").map(each => each.name).filter(name => !name.startsWith("data:")),
    background: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color,
    shown: [...document.querySelectorAll("figure")].filter(each => each.offsetParent).length,
  });
});
</script>"""


def browse(path, text: str, width: int = 390, dark: bool = False) -> types.SimpleNamespace:
  """Opens the page `text` in Chromium; returns PROBE's findings, and the console's lines."""
  if CHROMIUM is None:
    pytest.skip("no chromium, chromium-browser or google-chrome on this machine")
  # A window has a least width, wider than a phone; a frame has not.
  inner = html.escape(text.replace("<head>", "<head>" + PROBE, 1), quote=True)
  frame = f'<iframe style="border: 0; width: {width}px; height: 844px" srcdoc="{inner}"></iframe>'
  path.write_text(
    f'<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>{frame}</body></html>', encoding="utf-8"
  )
  scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
  command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
  command += ["--hide-scrollbars", "--window-size=1400,900"]
  command += [
    f"--user-data-dir={path.parent}/profile",
    scheme,
    "--dump-dom",
    f"file://{path}",
  ]
  done = subprocess.run(command, capture_output=True, text=True, timeout=120)
  root = re.search(r'data-found="([^"]*)"', done.stdout)
  assert root, done.stderr
  found = types.SimpleNamespace(**json.loads(html.unescape(root[1])))
  found.console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
  return found


def faults(found: types.SimpleNamespace) -> list:
  return [*found.faults, *found.console, *found.loaded, *found.wide] + [f"{found.overflow} px"] * (found.overflow > 0)
