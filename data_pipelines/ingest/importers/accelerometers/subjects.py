"""Whose a recording is, as far as the file says.

A .gt3x has "Subject Name" in info.txt, a .bin "Subject Code" among its first lines. A .cwa has notes in bytes 64 to 512
of the form "_sc=KIM&_p=right+wrist", where _sc is the code of the subject. A table of epochs does not say it, but
ActiLife names it after the subject: "KIM (2024-06-04)60sec.csv".
"""

from __future__ import annotations

import re
import urllib.parse

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.accelerometers import gt3x
from data_pipelines.ingest.reading.export_files import Export

_GENEACTIV = re.compile(rb"^Subject Code:[ \t]*([^\r\n]*?)[ \t]*$", re.MULTILINE)
_ACTILIFE = re.compile(r"(?P<subject>.+?) ?\(\d{4}-\d\d-\d\d\) ?(\d+sec)?( ?DataTable)?\.csv", re.IGNORECASE)
_NOTES = slice(64, 512)
_HEAD = 8192  # bytes


def subject(export: Export, name: str) -> str:
  """The subject that a file names; "" if it names none, or cannot be read."""
  base = name.rpartition("/")[2]
  match = _ACTILIFE.fullmatch(base)
  if match or base.lower().endswith(".csv"):
    return match["subject"] if match else ""
  try:
    if base.lower().endswith(".gt3x"):
      with export.inside(name) as inside:
        return gt3x.read_info(inside).subject
    with export.open(name) as file:
      head = file.read(_HEAD)
  except SchemaError:
    return ""  # reading it says so
  if base.lower().endswith(".cwa"):
    notes = re.split(rb"[\x00\xff]", head[_NOTES])[0].decode("ascii", "replace").strip()
    return urllib.parse.parse_qs(notes).get("_sc", [""])[0].strip()
  code = _GENEACTIV.search(head.replace(b"\r\n", b"\n"))
  return code[1].decode("utf-8", "replace") if code else ""
