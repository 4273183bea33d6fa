"""Exports of one person become one person and those of two become two; where they do not say, the import asks."""

import collections
import json
import os

import pytest

from data_pipelines.dataset import Dataset
from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.reading.importer import told_apart
from data_pipelines.ingest.reading.input_files import ExportSet, detect_importers
from tests.data_pipelines.ingest.long_tables import run_build
from tests.robustness.exports_of_people import apple, fit, fitbit, packed, samsung, within, write
from tests.robustness.imported_days import CASES, import_days

STAMP, LATER = "takeout-20240701T100000Z", "takeout-20240801T100000Z"


def people_of(folder, person_by=None):
  """The files of each person, as (places, files)."""
  kinds = detect_importers(folder, IMPORTERS)
  importers = {kind: IMPORTERS[kind] for kind in kinds}
  export_set = ExportSet(folder, importers[kinds[0]] if len(kinds) == 1 else told_apart(importers), person_by)
  files = collections.defaultdict(list)
  for n, name in export_set.files:
    files[export_set.exports[n].participant].append(name)
  return {who: len(names) for who, names in files.items()}


DAYS = packed({"idate.npy": "", "bpm.npy": ""})
KIM = within("kim", fitbit(1, account="AB12"))
KNOWN = {  # files, and how many files each person has
  "a Takeout in parts": ({f"{STAMP}-001.zip": packed(fitbit(1)), f"{STAMP}-1-002.zip": packed(fitbit(2))}, {STAMP: 2}),
  "a part that was downloaded twice": (
    {f"{STAMP}-001.zip": packed(fitbit(1)), f"{STAMP}-001 (1).zip": packed(fitbit(1))},
    {STAMP: 2},
  ),
  "unpacked parts": ({**within(f"{STAMP}-001", fitbit(1)), **within(f"{STAMP}-002", fitbit(2))}, {STAMP: 2}),
  "a zip beside what was in it": ({"kim.zip": packed(fitbit(1)), **within("kim", fitbit(1))}, {"kim": 2}),
  "two Takeouts of an account": (
    {f"{STAMP}-001.zip": packed(fitbit(1, account="AB12")), f"{LATER}-001.zip": packed(fitbit(2, account="AB12"))},
    {"takeout": 2},
  ),
  "two accounts": ({**KIM, **within("lee", fitbit(1, account="CD34"))}, {"kim": 1, "lee": 1}),
  "the same watch in daily zips": ({f"2024-06-{d:02d}.zip": packed({"9.fit": fit(d, 77)}) for d in (1, 2)}, {"in": 2}),
  "a folder of FIT files": ({f"{d}.fit": fit(d, 77) for d in (1, 2, 3)}, {"in": 3}),
  "FIT files without a number": ({f"{d}.fit": fit(d, 0) for d in (1, 2)}, {"in": 2}),
  "the same watch in folders of years": ({"2023/1.fit": fit(1, 77), "2024/1.fit": fit(2, 77)}, {"in": 2}),
  "two accounts of Garmin": (
    {
      f"{who}/DI_CONNECT/DI-Connect-Wellness/2024-01-01_2024-04-10_{number}_sleepData.json": "[]"
      for who, number in (("kim", 1234), ("lee", 5678))
    },
    {"kim": 1, "lee": 1},
  ),
  "two exports of Samsung": ({**samsung("kim", 1, "d1"), **samsung("kim", 2, "d1")}, {"samsunghealth_kim": 2}),
  "two people of Samsung": (
    {**samsung("kim", 1, "d1"), **samsung("lee", 1, "d2")},
    {"samsunghealth_kim_20240601": 1, "samsunghealth_lee_20240601": 1},
  ),
  "two exports of Apple": (
    {
      "a.zip": packed({"export.xml": apple(1, "Kim’s Watch", "1990-01-02")}),
      "b.zip": packed({"export.xml": apple(2, "Kim’s Watch", "1990-01-02")}),
    },
    {"in": 2},
  ),
  "two people of Apple": (
    {
      "kim/export.xml": apple(1, "Kim’s Watch", "1990-01-02"),
      "lee/export.xml": apple(1, "Lee’s Watch", "1980-01-02"),
    },
    {"kim": 1, "lee": 1},
  ),
  "Fit with folders in the user's language": (
    {"Takeout/Fit/Alle Daten/com.google.heart_rate.bpm.json": "{}", "Takeout/Fit/All Sessions/1.json": "{}"},
    {"in": 2},
  ),
  "the folders of Zepp": ({"HEARTRATE/HEARTRATE_1.csv": "", "SLEEP/SLEEP_1.csv": ""}, {"in": 2}),
  "an export in a folder of its own": (within("more/exports", fitbit(1)), {"in": 1}),
}


@pytest.mark.parametrize("case", KNOWN)
def test_what_exports_say_decides(tmp_path, case):
  files, expected = KNOWN[case]
  assert people_of(write(tmp_path / "in", files)) == expected
  if case == "a Takeout in parts":
    assert people_of(tmp_path / "in", "file") == expected  # of one name, and known to be one


ASKED = {
  "two Takeouts without an account": {f"{STAMP}-001.zip": packed(fitbit(1)), f"{LATER}-001.zip": packed(fitbit(2))},
  "a zip and a (1)": {"export.zip": packed(fitbit(1)), "export (1).zip": packed(fitbit(2))},
  "a zip beside another folder of its name": {"kim.zip": packed(fitbit(1)), **within("kim", fitbit(2))},
  "an account beside none": {**KIM, **within("lee", fitbit(1))},
  "two watches": {"1.fit": fit(1, 77), "2.fit": fit(2, 78)},
  "a watch beside one without a number": {"a/1.fit": fit(1, 77), "b/2.fit": fit(2, 0)},
  "one name and two phones": {**samsung("kim", 1, "d1"), **samsung("kim", 2, "d2")},
  "one phone and two names": {**samsung("kim", 1, "d1"), **samsung("lee", 2, "d1")},
  "one birthday and two watches": {
    "a/export.xml": apple(1, "Kim’s Watch", "1990-01-02"),
    "b/export.xml": apple(1, "Lee’s Watch", "1990-01-02"),
  },
  "watches without a name": {f"{d}/export.xml": apple(d, "Apple Watch", "1990-01-02") for d in (1, 2)},
  "apps with an Apple device": {f"{d}/export.xml": apple(d, "Oura", "1990-01-02") for d in (1, 2)},
  "a ring of another maker": {
    f"{d}/export.xml": apple(d, "Kim’s Watch", "1990-01-02").replace("manufacturer:Apple", "manufacturer:X")
    for d in (1, 2)
  },
  "Apple Watches by their model": {
    f"{d}/export.xml": apple(d, "Apple\xa0Watch Series 6", "1990-01-02") for d in (1, 2)
  },
  "two files of mhealthdata": {"anna.npz": DAYS, "ben.npz": DAYS},
  "two numbers of files of mhealthdata": {"P01.npz": DAYS, "P02.npz": DAYS},
  "two files of Oura": {"oura_anna.json": "{}", "oura_ben.json": "{}"},
  "two folders with files of Oura": {"anna/oura_anna.json": "{}", "ben/oura_ben.json": "{}"},
  "two folders with tables of Oura": {
    "anna/heartrate.csv": "timestamp;bpm\n",
    "ben/sleepmodel.csv": "bedtime_start;sleep_phase_5_min\n",
  },
}
OF_ONE_NAME = {
  *("an account beside none", "one birthday and two watches", "watches without a name", "apps with an Apple device"),
  *("a ring of another maker", "Apple Watches by their model"),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_cannot_be_known_is_asked_in_one_line(tmp_path, case, capsys):
  folder = write(tmp_path / "in", ASKED[case])
  assert run_build("--source=auto", f"--input={folder}", "--dry_run") == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and "--one_person" in error and "--person_by=folder" in error
  assert people_of(folder, "one") == {"in": 2}
  if case in OF_ONE_NAME:
    with pytest.raises(SchemaError, match=r"would both be '.*' by --person_by=file; rename one"):
      people_of(folder, "file")
  elif case != "a zip and a (1)":  # a browser's copy is asked about whatever makes a person
    assert sum(people_of(folder, "file").values()) == 2


def test_accounts_decide_if_told_so(tmp_path):
  folder = write(tmp_path / "in", {**samsung("kim", 1, "d1"), **samsung("kim", 2, "d2"), **samsung("lee", 3, "d3")})
  assert people_of(folder, "account") == {"samsunghealth_kim": 2, "samsunghealth_lee_20240603": 1}
  with pytest.raises(SchemaError, match="does not name an account, as --person_by=account expects"):
    people_of(write(tmp_path / "none", fitbit(1)), "account")


def test_accounts_do_not_decide_between_kinds_or_people_who_share_a_device(tmp_path):
  with pytest.raises(SchemaError, match=r"holds exports of fitbit and garmin, which have no accounts in common"):
    people_of(write(tmp_path / "kinds", {**KIM, "kim/1.fit": fit(1, 77)}), "account")
  with pytest.raises(SchemaError, match="exports share a device but name different people"):
    people_of(write(tmp_path / "in", {**samsung("kim", 1, "d1"), **samsung("lee", 2, "d1")}), "account")


def test_flags_without_effect_are_told(tmp_path):
  table = "participant,time,heart_rate\nkim,2024-06-04T06:00:00Z,61\n"
  folder = write(tmp_path / "in", {"a.csv": table})
  line = "--one_person and --person_by have no effect where rows or files name people: 1 export"
  assert line in import_days(folder, person_by="one", timezone="UTC").lines
  assert line not in import_days(folder, timezone="UTC").lines


def test_the_folder_that_a_dot_stands_for_has_a_name(tmp_path, monkeypatch):
  write(tmp_path / "kim", {"t.csv": "time,channel,value\n2024-06-04 08:00,heart_rate,61\n", "more/x.txt": ""})
  for here, dots in (("kim", "."), ("kim/more", "..")):
    monkeypatch.chdir(tmp_path / here)
    assert {who for who, _, _ in import_days(dots).values} == {"kim"}


def test_names_in_rows_of_two_folders_are_asked_about(tmp_path):
  table = "participant,time,heart_rate\n{},2024-06-04T06:00:00Z,61\n"
  files = {"a/t.csv": table.format(1), "a/u.csv": table.format(1), "b/t.csv": table.format(2)}
  assert people_of(write(tmp_path / "in", files)) == {"in": 3}
  write(tmp_path / "in", {"b/u.csv": table.format(1)})
  with pytest.raises(SchemaError, match=r"in: rows in a and b name '1' and do not say .* give --person_by=account if"):
    people_of(tmp_path / "in")
  imported = import_days(tmp_path / "in", person_by="account", timezone="UTC")
  assert {who for who, _, _ in imported.values} == {"1", "2"} and imported.dropped == {"exact duplicate": 2}
  zipped = write(tmp_path / "zipped", {"a.zip": packed({"t.csv": table.format(1)}), "t.csv": table.format(1)})
  with pytest.raises(SchemaError, match="zipped: rows in the input itself and a name '1'"):
    people_of(zipped)
  unpacked = write(tmp_path / "b", {"a.zip": packed({"t.csv": table.format(1)}), "a/t.csv": table.format(1)})
  assert {who for who, _, _ in import_days(unpacked, timezone="UTC").values} == {"1"}
  study = write(tmp_path / "c", {"study.zip": packed({f"{f}/t.csv": table.format(1) for f in "ab"})})
  for one_zip in (study, study / "study.zip"):
    assert {who for who, _, _ in import_days(one_zip, timezone="UTC").values} == {"1"}


def test_overlapping_exports_are_merged_and_duplicates_counted(tmp_path):
  run = [{"activityName": "Run", "startTime": "06/02/24 08:00:00", "duration": 120000, "logId": 1}]
  exercise = {"Takeout/Fitbit/Global Export Data/exercise-0.json": json.dumps(run)}
  files = {
    f"{STAMP}-001.zip": packed({**fitbit(1), **fitbit(2, 70), **exercise}),
    f"{STAMP}-002.zip": packed({**fitbit(2, 70), **fitbit(3, 80), **exercise}),
  }
  imported = import_days(write(tmp_path / "in", files), timezone="UTC")
  first = {"2024-06-01": 60, "2024-06-02": 70, "2024-06-03": 80}
  assert imported.values == {
    (STAMP, date, "heart_rate"): {f"08:{n:02d}": float(beat + n) for n in range(5)} for date, beat in first.items()
  }
  assert imported.dropped == {"exact duplicate": 6}
  assert [event.name for event in imported.events] == ["run"]


def test_a_damaged_zip_beside_good_ones_is_counted(tmp_path, capsys):
  good = packed(fitbit(1))
  folder = write(tmp_path / "in", {f"{STAMP}-001.zip": good, f"{STAMP}-002.zip": good[:-30], f"{STAMP}-003.zip": ""})
  flags = ["--source=auto", f"--input={folder}", "--dry_run", "--max_missing=1", "--timezone=UTC"]
  assert run_build(*flags) == 0
  output = capsys.readouterr().out
  assert "account of 1 person: 7 rows read, 5 kept, 2 dropped" in output
  assert f"{folder}/{STAMP}-002.zip: not a zip, or a truncated one" in output
  assert f"{folder}/{STAMP}-003.zip: empty" in output
  assert run_build(*flags, "--strict") == 2
  assert f"{folder}/{STAMP}-002.zip: not a zip" in capsys.readouterr().err


@pytest.mark.parametrize("person_by", [["--person_by=folder"], []])
def test_three_kinds_of_exports_of_two_people_with_a_damaged_file_in_each(tmp_path, capsys, person_by):
  cut = fitbit(3)["Takeout/Fitbit/Global Export Data/heart_rate-2024-06-03.json"][:-8]  # the last item is broken
  files = {}
  for who, first, born in (("kim", 60, "1990-01-02"), ("lee", 100, "1980-01-02")):
    takeout = {**fitbit(1, first), "Takeout/Fitbit/Global Export Data/heart_rate-2024-06-02.json": ""}
    files[f"{who}/{STAMP}-001.zip"] = packed(takeout)
    broken = apple(5, f"{who}’s Watch", born, first).replace(f'value="{first + 4}"', f'value="{first + 4}')
    files[f"{who}/apple_health_export/export.xml"] = broken
    files |= within(f"{who}/garmin", {"7.fit": fit(7, first, first), "8.fit": b""})
  files["kim/garmin/cut.json"] = cut  # of no kind that Garmin writes
  folder = write(tmp_path / "study", files)
  flags = [f"--input={folder}", f"--data_dir={tmp_path / 'data'}", "--name=study", "--max_missing=1", "--timezone=UTC"]
  code = run_build("--source=auto", *flags, *person_by)
  printed = capsys.readouterr()
  if not person_by:
    assert code == 2 and "holds exports of fitbit and apple and garmin" in printed.err
    assert "--one_person or --person_by=folder" in printed.err and printed.err.count("\n") == 1
    return
  assert code == 0, printed.err
  dataset = Dataset.open(tmp_path / "data", "study")
  found = {}
  for split in (split for split in ("pretrain", "tune", "eval") if dataset.num_days(split)):
    days = dataset.days(split)
    for day in (days[i] for i in range(len(days))):
      beats = day["values"][:, dataset.schema.names.index("heart_rate")]
      found[day["participant"].decode(), day["date"].decode()] = beats[480:485].tolist()
  expected = {}
  for who, first in (("kim", 60), ("lee", 100)):
    for day in (1, 5, 7):
      beats = [float(first + n) for n in range(5)]
      expected[who, f"2024-06-{day:02d}"] = beats[:4] if day == 5 else beats
  assert {key: [v for v in beats if v == v] for key, beats in found.items()} == expected
  assert "account of 2 people: 34 rows read, 28 kept, 6 dropped (17.6 %)" in printed.out
  for who in ("kim", "lee"):
    assert (
      f"{folder}/{who}/{STAMP}-001.zip/Takeout/Fitbit/Global Export Data/heart_rate-2024-06-02.json: empty"
      in printed.out
    )
    assert f"{folder}/{who}/apple_health_export/export.xml row 5" in printed.out
    assert f"{folder}/{who}/garmin/8.fit: empty" in printed.out


CASE_PEOPLE = {
  "24-two-exports-of-one-person/exports": {"samsunghealth_kim": 2},
  "05-one-bad-file-stops-all": None,  # a watch's folder and a zip: the same file, without a number of the watch
  "05-one-bad-file-stops-all/watch": {"watch": 2},
  "05-one-bad-file-stops-all/mac.zip": {"mac": 1},
  "16-fitbit-one-bad-file/takeout": {"takeout": 2},
  "16-fitbit-one-bad-file": None,  # three Takeouts without an account
  "36-downloads-folder/Downloads": {"Downloads": 2},  # of which one has a column of people
}


@pytest.mark.parametrize("case", CASE_PEOPLE)
def test_the_shared_cases_have_the_right_people(case):
  if not CASES.is_dir():
    pytest.skip("the shared cases are not here")
  if CASE_PEOPLE[case] is None:
    with pytest.raises(SchemaError, match="--one_person"):
      people_of(CASES / case)
  else:
    assert people_of(CASES / case) == CASE_PEOPLE[case]


def test_a_relative_input_has_the_same_account(tmp_path, monkeypatch):
  table = "time,channel,value\n2024-06-04 08:00,heart_rate,61\n"
  write(tmp_path / "in", {"kim/t.csv": table, "kim/notes.txt": "x", "lee/t.csv": table})
  monkeypatch.chdir(tmp_path)
  lines = [import_days(path, person_by="folder").lines for path in ("in", tmp_path / "in")]
  assert [line.replace(f"{tmp_path}/", "") for line in lines[1]] == lines[0]
  assert "not read: 1 file" in "\n".join(lines[0])


def test_people_of_a_zip_share_the_open_file(tmp_path):
  table = "time,channel,value\n2024-06-04T06:00:00Z,heart_rate,61\n"
  folder = write(tmp_path / "in", {"study.zip": packed({f"p{n}/t.csv": table for n in range(30)})})
  opened = len(os.listdir("/proc/self/fd"))
  exports = ExportSet(folder / "study.zip", IMPORTERS["long_table"], "folder")
  assert len(exports.exports) == 30 and len(os.listdir("/proc/self/fd")) == opened + 1


def test_rows_with_names_count_more_than_folders(tmp_path):
  table = "participant,time,heart_rate\n{},2024-06-04T06:00:00Z,61\n"
  plain = "time,channel,value\n2024-06-04T06:00:00Z,heart_rate,61\n"
  folder = write(tmp_path / "in", {"all.csv": table.format("ann")})
  assert {who for who, *_ in import_days(folder, person_by="folder", timezone="UTC").values} == {"ann"}
  write(folder, {"kim/hr.csv": plain})
  imported = import_days(folder, person_by="folder", timezone="UTC")
  assert {who for who, *_ in imported.values} == {"ann", "kim"}
  with pytest.raises(
    SchemaError, match=r"kim/hr.csv does not say whose it is, and all.csv has a name in each row; give --per"
  ):
    import_days(folder, timezone="UTC")
