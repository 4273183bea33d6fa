"""Resolved configs and shardings equal the golden files, so that a change is a diff that a reviewer reads."""

import pytest

from tests import golden


@pytest.mark.parametrize("file", golden.FILES)
def test_golden(file):
  changed = golden.difference(file)
  assert not changed, f"\n{changed}\nIf this is intended: python -m tests.golden"


def test_no_golden_file_is_left_over():
  files = {path.name for path in golden.FOLDER.iterdir() if path.suffix in (".json", ".txt")}
  assert files == set(golden.FILES)
