"""Apple's export.xml: every value against an independent reading, the parser's defences, bad rows counted."""

import contextlib
import datetime
import os
import pathlib
import xml.etree.ElementTree as ElementTree
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.importers.apple import Apple
from data_pipelines.ingest.importers.health_xml import entries
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.readings import Readings, Stretch

DOCUMENT_TYPE = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE HealthData [
<!-- HealthKit Export Version: 12 -->
<!ELEMENT HealthData (ExportDate,Me,(Record|Correlation|Workout|ActivitySummary|ClinicalRecord)*)>
<!ATTLIST HealthData
  locale CDATA #REQUIRED
>
<!ELEMENT Record ((MetadataEntry|HeartRateVariabilityMetadataList)*)>
<!ATTLIST Record
  type          CDATA #REQUIRED
  unit          CDATA #IMPLIED
  value         CDATA #IMPLIED
  sourceName    CDATA #REQUIRED
  sourceVersion CDATA #IMPLIED
  device        CDATA #IMPLIED
  creationDate  CDATA #IMPLIED
  startDate     CDATA #REQUIRED
  endDate       CDATA #REQUIRED
>
]>
"""
WATCH = (
  "&lt;&lt;HKDevice: 0x2837100a0&gt;, name:Apple Watch, manufacturer:Apple Inc., model:Watch, hardware:Watch6,2, "
  "software:10.3.1&gt;"
)
PHONE = "&lt;&lt;HKDevice: 0x283710140&gt;, name:iPhone, manufacturer:Apple Inc., model:iPhone, hardware:iPhone14,2&gt;"
OTHER = "&lt;&lt;HKDevice: 0x2837101e0&gt;, name:Watch GT, manufacturer:Huawei, model:Watch GT&gt;"
QUANTITY = "HKQuantityTypeIdentifier"
SLEEP = "HKCategoryTypeIdentifierSleepAnalysis"
STAGE = "HKCategoryValueSleepAnalysis"
PERSONAL = ("Anna", "1984-02-03")


def record(type, value, start, end=None, unit=None, device=WATCH, source="Anna’s Apple\xa0Watch", zone=None, inside=""):
  """One Record as Apple writes it: its attributes in this order, without those that are None."""
  attributes = {"type": type, "sourceName": source, "sourceVersion": "10.3.1", "device": device, "unit": unit}
  attributes |= {"creationDate": "2024-03-31 09:00:00 +0200", "startDate": start, "endDate": end or start}
  text = " ".join(
    f'{key}="{attribute}"' for key, attribute in (attributes | {"value": value}).items() if attribute is not None
  )
  if zone:
    inside += f'  <MetadataEntry key="HKTimeZone" value="{zone}"/>\n'
  return f" <Record {text}>\n{inside} </Record>\n" if inside else f" <Record {text}/>\n"


def t(clock, day=31):
  return f"2024-03-{day} {clock} +0200"


RECORDS = [
  record(QUANTITY + "StepCount", "120", t("10:00:00"), t("10:05:00"), "count", PHONE, "Anna"),
  record(QUANTITY + "StepCount", "98", t("10:01:00"), t("10:03:30"), "count"),
  record(QUANTITY + "StepCount", "7", t("10:00:00"), t("10:05:00"), "count", OTHER, "Health"),
  record(QUANTITY + "HeartRate", "62", t("01:59:00"), unit="count/min"),
  record(
    QUANTITY + "HeartRate",
    "63.5",
    "2024-10-27 02:30:00 +0100",
    unit="count/min",
    inside='  <MetadataEntry key="HKMetadataKeyHeartRateMotionContext" value="0"/>\n',
  ),
  record(QUANTITY + "DistanceWalkingRunning", "0.25", t("10:00:00"), t("10:05:00"), "mi"),
  record(QUANTITY + "ActiveEnergyBurned", "1.5", t("10:00:00"), t("10:01:00"), "Cal"),
  record(QUANTITY + "BasalEnergyBurned", "4.184", t("10:00:00"), t("10:01:00"), "kJ"),
  record(QUANTITY + "FlightsClimbed", "2", t("10:00:00"), t("10:02:00"), "count"),
  record(QUANTITY + "OxygenSaturation", "0.97", t("03:00:00"), unit="%"),
  record(
    QUANTITY + "HeartRateVariabilitySDNN",
    "41.2",
    t("03:00:00"),
    t("03:01:00"),
    "ms",
    inside="  <HeartRateVariabilityMetadataList>\n"
    '   <InstantaneousBeatsPerMinute bpm="61" time="3:00:01,12 AM"/>\n  </HeartRateVariabilityMetadataList>\n',
  ),
  record(QUANTITY + "RespiratoryRate", "14.5", t("03:00:00"), unit="count/min"),
  record(QUANTITY + "AppleSleepingWristTemperature", "95", t("23:00:00", 30), t("06:00:00"), "degF"),
  record(QUANTITY + "BloodGlucose", "90.08", t("08:00:00"), unit="mg/dL", device=None, source="Libre"),
  record(
    QUANTITY + "BloodGlucose", "5", t("08:15:00"), unit="mmol&lt;180.1558800000541&gt;/L", device=None, source="Libre"
  ),
  record(QUANTITY + "AppleStandTime", "3", t("10:00:00"), t("10:05:00"), "min"),
  record(QUANTITY + "BodyMass", "61", t("08:00:00"), unit="kg", device=None, source="Health"),
  record(SLEEP, STAGE + "InBed", t("22:30:00", 30), t("06:30:00"), None, PHONE, "Anna"),
  record(SLEEP, STAGE + "AsleepCore", t("23:00:00", 30), t("02:00:00"), zone="America/New_York"),
  record(SLEEP, STAGE + "Awake", t("02:00:00"), t("02:10:00"), zone="America/New_York"),
  record(SLEEP, STAGE + "Asleep", t("02:10:00"), t("06:00:00"), zone="GMT+0200"),
]
OTHERS = """ <Correlation type="HKCorrelationTypeIdentifierFood" sourceName="Anna">
{}</Correlation>
 <Workout workoutActivityType="HKWorkoutActivityTypeTraditionalStrengthTraining" duration="30" durationUnit="min" \
sourceName="Anna’s Apple\xa0Watch" startDate="2024-03-31 18:00:00 +0200" endDate="2024-03-31 18:30:00 +0200">
  <MetadataEntry key="HKTimeZone" value="Asia/Kolkata"/>
  <WorkoutStatistics type="HKQuantityTypeIdentifierHeartRate" average="120"/>
 </Workout>
 <Workout workoutActivityType="HKWorkoutActivityTypeRunning" startDate="2024-03-31 19:00:00 +0200" \
endDate="2024-03-31 19:20:00 +0200"/>
 <ActivitySummary dateComponents="2024-03-31" activeEnergyBurned="420"/>
"""
STEPS, HEART = RECORDS[1], RECORDS[3]


def health_xml(*records: str, prolog=DOCUMENT_TYPE) -> str:
  me = '<Me HKCharacteristicTypeIdentifierDateOfBirth="1984-02-03"/>'
  body = f' <ExportDate value="2024-11-01 09:00:00 +0100"/>\n {me}\n{"".join(records)}'
  return f'{prolog}<HealthData locale="de_DE">\n{body}</HealthData>\n'


FULL = health_xml(*RECORDS, OTHERS.format(HEART))


def write(tmp_path, text, name="apple_health_export/export.xml", encoding="utf-8"):
  path = tmp_path / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
  return Export(tmp_path, "p1")


def imported(export):
  """Readings, stretches and account of all files of an export."""
  account = Account()
  items = [block for name in Apple().files(export) for block in Apple().read(export, name, account)]
  readings = [block for block in items if isinstance(block, Readings)]
  return readings, [block for block in items if isinstance(block, Stretch)], account


def rows(readings):
  """(signal, unit, device, start, end, value, offset) of every reading, in order of file within a block."""
  tuples = set()
  for block in readings:
    offsets = [None] * len(block.value) if block.offset is None else block.offset.tolist()
    columns = zip(block.start.tolist(), block.end.tolist(), block.value.tolist(), offsets, strict=True)
    tuples |= {(block.signal, block.unit, block.device, *row) for row in columns}
  return tuples


def ms(text):
  return int(datetime.datetime.strptime(text, "%Y-%m-%d %H:%M:%S %z").timestamp() * 1000)


def independently(text):
  """The same tuples as `rows`, by the standard library's XML parser, record by record."""
  names = {"HeartRate": "heart_rate", "StepCount": "steps", "DistanceWalkingRunning": "distance"}
  names |= {"ActiveEnergyBurned": "active_calories", "BasalEnergyBurned": "basal_calories", "FlightsClimbed": "floors"}
  names |= {"OxygenSaturation": "spo2", "HeartRateVariabilitySDNN": "hrv_sdnn", "BloodGlucose": "glucose"}
  names |= {"RespiratoryRate": "respiratory_rate", "AppleSleepingWristTemperature": "skin_temperature"}
  names |= {"AppleStandTime": "stand_time"}
  offsets = {"America/New_York": -240}
  tuples = set()
  for child in ElementTree.fromstring(text).findall("Record"):
    attributes, zone = child.attrib, child.find("MetadataEntry[@key='HKTimeZone']")
    device = attributes.get("device", "")
    kind = "watch" if "model:Watch," in device else "phone" if "iPhone" in device else "other"
    kind = {"Libre": "other 2"}.get(attributes["sourceName"], kind)
    value, unit = attributes["value"], attributes.get("unit", "").replace("%", "fraction")
    if attributes["type"] == SLEEP:
      signal, kind = "asleep", "in bed" if value.endswith("InBed") else kind
      value = str(float("SleepAnalysisAsleep" in value))
    elif not (signal := names.get(attributes["type"].removeprefix(QUANTITY))):
      continue
    offset = offsets.get(zone.get("value")) if zone is not None else None
    tuples.add((signal, unit, kind, ms(attributes["startDate"]), ms(attributes["endDate"]), float(value), offset))
  return tuples


def test_every_value_is_what_an_independent_reading_finds(tmp_path):
  readings, _, account = imported(write(tmp_path, FULL))
  assert rows(readings) == independently(FULL)
  assert account.read == {"p1": len(RECORDS) - 1 + 2}  # all but body mass, and two workouts; no copy in a correlation
  assert not account.dropped


def test_signals_have_units_that_convert(tmp_path):
  from data_pipelines.channels.units import convert

  signals = {signal.name: signal for signal in Apple.signals}
  readings, _, _ = imported(write(tmp_path, FULL))
  values = {
    (block.signal, block.device): convert(block.value, block.unit, signals[block.signal].unit, "").tolist()
    for block in readings
  }
  assert values["spo2", "watch"] == [97]
  assert values["skin_temperature", "watch"] == [pytest.approx(35)]
  assert values["distance", "watch"] == [pytest.approx(402.336)]
  assert values["basal_calories", "watch"] == [pytest.approx(1)]
  assert values["active_calories", "watch"] == [1.5]
  glucose = [convert(b.value, b.unit, "mmol/L", "")[0] for b in readings if b.signal == "glucose"]
  assert glucose == [pytest.approx(5, abs=1e-3)] * 2


def test_watch_comes_before_phone_before_others_before_time_in_bed():
  devices = Apple.devices
  order = [devices.index(device) for device in ("watch", "watch 2", "phone", "phone 2", "other", "other 9", "in bed")]
  assert order == sorted(order) and devices[-1] == "in bed"


def test_the_second_device_of_a_kind_has_a_name_of_its_own(tmp_path):
  other = STEPS.replace("Anna’s", "Ben’s")
  readings, _, _ = imported(write(tmp_path, health_xml(STEPS, other, STEPS)))
  assert sorted((block.device, len(block.value)) for block in readings) == [("watch", 2), ("watch 2", 1)]
  many = [STEPS.replace("Anna", f"Anna {i}") for i in range(20)]
  readings, _, _ = imported(write(tmp_path, health_xml(*many)))
  assert {block.device for block in readings} <= set(Apple.devices)


def test_records_without_device_go_by_the_name_of_their_source(tmp_path):
  old = [record(QUANTITY + "StepCount", "1", "2015-01-01 10:00:00 +0100", unit="count", device=None, source=source)
         for source in ("Annas Apple\xa0Watch", "iPhone von Anna", "Anna")]  # fmt: skip
  readings, _, _ = imported(write(tmp_path, health_xml(*old)))
  assert [block.device for block in readings] == ["watch", "phone", "other"]


def test_workouts_become_stretches(tmp_path):
  _, stretches, _ = imported(write(tmp_path, FULL))
  start = ms("2024-03-31 18:00:00 +0200")
  assert stretches[0] == Stretch("p1", "traditional strength training", start, start + 30 * 60_000, 330)
  assert stretches[1] == Stretch("p1", "running", start + 3_600_000, start + 80 * 60_000)


def test_summer_time_is_in_the_offset_of_the_zone(tmp_path):
  night = [
    record(SLEEP, "HKCategoryValueSleepAnalysisAsleepREM", start, end, zone="Europe/Berlin")
    for start, end in (
      ("2024-03-31 01:30:00 +0100", "2024-03-31 03:30:00 +0200"),
      ("2024-03-31 03:30:00 +0200", "2024-03-31 03:40:00 +0200"),
    )
  ]
  (block,), _, _ = imported(write(tmp_path, health_xml(*night)))
  assert block.offset.tolist() == [60, 120]
  assert (block.end - block.start).tolist() == [3_600_000, 600_000]


@pytest.mark.parametrize("name", ["exportieren.xml", "apple_health_export/Export.xml", "a/导出.XML"])
def test_files_are_found_by_their_root(tmp_path, name):
  export = write(tmp_path, FULL, name)
  write(
    tmp_path, '<?xml version="1.0"?>\n<ClinicalDocument xmlns="urn:hl7-org:v3"/>', "apple_health_export/export_cda.xml"
  )
  write(tmp_path, b"a,b\n1,2\n", "steps.csv")
  assert Apple().files(Export(tmp_path)) == [name]
  assert rows(imported(export)[0]) == independently(FULL)


def test_a_zip_reads_as_its_folder(tmp_path):
  write(tmp_path / "folder", FULL)
  with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as packed:
    packed.writestr("apple_health_export/export.xml", FULL)
  assert rows(imported(Export(tmp_path / "export.zip", "p1"))[0]) == rows(imported(Export(tmp_path / "folder"))[0])


def test_the_importer_is_registered():
  assert isinstance(IMPORTERS["apple"], Apple)


def test_malformed_document_types_of_apple_and_control_characters_are_skipped(tmp_path):
  broken = DOCUMENT_TYPE.replace("endDate       CDATA #REQUIRED\n>", "endDate       CDATA #REQUIRED")
  with pytest.raises(ElementTree.ParseError):
    ElementTree.fromstring(health_xml(HEART, prolog=broken))
  text = health_xml(HEART.replace("Anna", "Anna\x0b"), prolog=broken)
  assert rows(imported(write(tmp_path, text))[0]) == independently(health_xml(HEART))


ENTITY = '<!ENTITY a "b">'
LAUGHS = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(10))


@pytest.mark.parametrize(
  ("prolog", "why"),
  [
    (f"<!DOCTYPE HealthData [{ENTITY}]>", "entities"),
    (f'<!DOCTYPE HealthData [<!ENTITY l0 "ha">{LAUGHS}]>', "entities"),
    ('<!DOCTYPE HealthData [<!ENTITY x SYSTEM "file:///etc/hostname">]>', "entities"),
    ('<!DOCTYPE HealthData [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x.dtd"> %x;]>', "entities"),
    ('<!DOCTYPE HealthData SYSTEM "http://127.0.0.1:9/x.dtd">', "document type"),
    ("<!DOCTYPE HealthData [ ]><!DOCTYPE HealthData [ ]><!DOCTYPE HealthData>", "."),
    (f"<!-- <HealthData> --><!DOCTYPE HealthData [{ENTITY}]>", "document type"),
    (f"<!-- <!DOCTYPE HealthData []> --><!DOCTYPE HealthData [{ENTITY}]>", "entities"),
    (f"<?x <HealthData ?><!DOCTYPE HealthData [{ENTITY}]>", "document type"),
  ],
)
def test_active_features_of_xml_are_refused(tmp_path, prolog, why):
  text = health_xml(HEART.replace("Anna", "&l9;&x;&a;"), prolog=prolog)
  with pytest.raises(SchemaError, match=why) as refused:
    imported(write(tmp_path, text))
  assert "\n" not in str(refused.value) and "export.xml" in str(refused.value)


@pytest.mark.parametrize(
  ("text", "why"),
  [
    (FULL[:2000], "row 4: broken XML element"),
    (FULL.replace("</HealthData>", ""), "after row 23: cut off before its end"),
    (FULL.encode("latin-1", "replace").replace(b"Anna", b"\xe9"), "row 1: bytes that are not UTF-8 text, replaced"),
    (FULL.replace("Anna", "&nbsp;"), "row 1: broken XML element"),
    (health_xml("<a>" * 100_000), "after row 0: broken XML element"),
    (FULL.replace("Anna", "An\0na"), "row 1: broken XML element"),
    (FULL.replace("\n ", "").replace("</HealthData>", ""), "broken or truncated XML after row 23"),
    ("<a><HealthData></HealthData></a>", "root is not HealthData"),
  ],
)
def test_broken_files_are_refused_in_one_line(tmp_path, text, why):
  export = write(tmp_path, text)
  with pytest.raises(SchemaError, match=why) as refused:
    list(Apple().read(export, export.names[0], Account(strict=True)))
  assert "\n" not in str(refused.value)
  assert not any(secret in str(refused.value) for secret in PERSONAL)


def test_of_a_file_of_another_layout_what_is_before_its_fault_is_kept(tmp_path):
  export, account, found = write(tmp_path, FULL.replace("\n ", "").replace("</HealthData>", "")), Account(), []
  with pytest.raises(SchemaError, match="broken or truncated XML after row 23"):
    for item in Apple().read(export, export.names[0], account):
      found.append(item)  # extend() would lose them
  readings = [block for block in found if isinstance(block, Readings)]
  assert rows(readings) == independently(FULL)
  kept = sum(len(block.start) for block in readings) + len(found) - len(readings)
  assert kept == account.read.total() - account.dropped.total() and account.passed_over


def test_more_sources_than_are_remembered_are_the_same_devices(tmp_path, monkeypatch):
  records = [HEART.replace("Anna", f"Anna {n % 4}") for n in range(12)]
  expected = rows(imported(write(tmp_path / "a", health_xml(*records)))[0])
  monkeypatch.setattr("data_pipelines.ingest.importers.apple._MOST_KEYS", 2)
  assert rows(imported(write(tmp_path / "b", health_xml(*records)))[0]) == expected


def test_a_declared_encoding_other_than_utf8_is_ignored(tmp_path):
  declared = FULL.replace('encoding="UTF-8"', 'encoding="UTF-7"')
  assert rows(imported(write(tmp_path, declared))[0]) == independently(FULL)
  assert rows(imported(write(tmp_path, FULL, encoding="utf-16"))[0]) == independently(FULL)


def test_unknown_units_are_counted_with_their_row(tmp_path):
  text = health_xml(HEART, HEART.replace("count/min", "count/fortnight"))
  readings, _, account = imported(write(tmp_path, text))
  assert rows(readings) == independently(health_xml(HEART))
  why = "heart_rate in a unit that does not convert"
  assert account.read == {"p1": 2} and account.dropped == {("p1", why): 1}
  assert account.example["p1", why].endswith("export.xml row 2")


BEATS = [record(QUANTITY + "HeartRate", str(60 + k), t(f"08:0{k}:00"), unit="count/min", zone="GMT") for k in range(5)]
WEIGHT = record(QUANTITY + "BodyMass", "77", t("08:00:00"), unit="kg", device=None, source="Scale")
FIVE = health_xml(*BEATS[:3], WEIGHT, *BEATS[3:], OTHERS.format(BEATS[0])).encode()


@pytest.mark.parametrize(
  ("damaged", "kept", "counted", "why", "place"),
  [
    (FIVE.replace(b"Scale", b"Scal\xff"), 5, 0, "bytes that are not UTF-8 text, replaced", " row 4"),
    (FIVE.replace(b"Scale", b"Scale&#11;"), 5, None, "", ""),
    (FIVE.replace(b'value="77"', b'value="77'), 5, 1, "broken XML element", " row 4"),
    (FIVE.replace(b'value="62"', b'value="62" <'), 4, 1, "broken XML element", " row 3"),
    (FIVE.replace(b'value="62"', b'value="&nbsp;"'), 4, 1, "broken XML element", " row 3"),
    (FIVE.replace(b'value="62"', b'value="6\0"'), 4, 1, "broken XML element", " row 3"),
    (FIVE + b"<Record/>", 5, 1, "more after the end", " after row 8"),
    (FIVE.replace(b"</HealthData>\n", b""), 5, 1, "cut off before its end", " after row 8"),
    (FIVE.replace(b"</HealthData>\n", bytes(500)), 5, 2, "cut off before its end", " after row 8"),
    (FIVE[: FIVE.index(b"<ActivitySummary") + 9], 5, 2, "cut off before its end", " after row 8"),
  ],
)
@pytest.mark.parametrize("block", [1 << 20, 700])
def test_damage_costs_the_element_it_is_in(tmp_path, monkeypatch, damaged, kept, counted, why, place, block):
  monkeypatch.setattr("data_pipelines.ingest.importers.health_xml._BLOCK", block)
  readings, stretches, account = imported(write(tmp_path, damaged))
  gone = {62.0} if kept == 4 else set()
  assert sorted(row[5] for row in rows(readings)) == sorted({60.0, 61.0, 62.0, 63.0, 64.0} - gone)
  assert len(stretches) == 2
  found = {key[1]: (rows, first) for key, (rows, first) in account.damage.items()}
  assert found.get(why, (0, ""))[1] == place
  assert (sum(rows for rows, _ in found.values()) if found else None) == counted


def test_rows_that_cannot_be_used_are_counted(tmp_path):
  bad = [
    HEART.replace("2024-03-31 01:59:00 +0200", "yesterday"),
    HEART.replace("2024-03-31 01:59:00 +0200", "2024-02-30 01:59:00 +0200"),
    HEART.replace("2024-03-31 01:59:00 +0200", "2024-03-31 01:59:00"),
    HEART.replace("2024-03-31 01:59:00 +0200", "0001-01-01 00:00:00 +0000"),
    HEART.replace('startDate="2024-03-31 01:59:00 +0200"', ""),
    STEPS.replace("10:03:30", "09:03:30"),
    HEART.replace('value="62"', 'value="sixty"'),
    HEART.replace('value="62"', 'value="nan"'),
    RECORDS[18].replace("AsleepCore", "Dreaming"),
    OTHERS[OTHERS.index(" <Workout") : OTHERS.index(" <ActivitySummary")].replace("ActivityTypeRunning", "Type Anna"),
  ]
  readings, stretches, account = imported(write(tmp_path, health_xml(HEART, *bad)))
  assert sum(len(block.value) for block in readings) == 1 and len(stretches) == 1
  assert account.read == {"p1": len(bad) + 2}
  assert account.dropped == {
    ("p1", "no time with an offset between 1970 and 2100"): 5,
    ("p1", "ends before it starts"): 1,
    ("p1", "no number or known category"): 3,
    ("p1", "unknown kind of workout"): 1,
  }
  assert account.example["p1", "ends before it starts"].endswith("export.xml row 7")
  assert not any(secret in location for location in account.example.values() for secret in PERSONAL)


def test_nothing_personal_leaves_the_importer(tmp_path):
  readings, stretches, _ = imported(write(tmp_path, FULL))
  assert not any(secret in repr((readings, stretches)) for secret in PERSONAL)


def test_memory_does_not_grow_with_the_file(tmp_path):
  # Records of types that are not read, and unknown elements, must not pile up in memory either.
  elements = HEART + RECORDS[16] + "<Unknown><Deep a='1'>text</Deep></Unknown>\n"
  export = write(tmp_path, health_xml(elements * 40_000))  # 40 MB, and about 300 MB as a tree
  pages = [int(pathlib.Path("/proc/self/statm").read_text().split()[1])
           for batch in entries(export, export.names[0], [QUANTITY + "HeartRate"], Account()) if batch]  # fmt: skip
  assert len(pages) > 20
  assert (max(pages[5:]) - pages[4]) * os.sysconf("SC_PAGE_SIZE") < 20 * 2**20


def test_blocks_are_cut_and_nothing_is_lost(tmp_path, monkeypatch):
  monkeypatch.setattr("data_pipelines.ingest.importers.health_xml._BLOCK", 1000)
  monkeypatch.setattr("data_pipelines.ingest.importers.apple._MOST_ROWS", 5)
  assert rows(imported(write(tmp_path, FULL))[0]) == independently(FULL)


@settings(max_examples=100, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_are_refused_or_read(tmp_path, data):
  raw = bytearray(FULL.encode())
  for _ in range(data.draw(st.integers(1, 4))):
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + data.draw(st.integers(0, 20))] = data.draw(
      st.binary(max_size=20) | st.sampled_from([b'"', b"<", b"&"])
    )
  export = write(tmp_path, bytes(raw))
  try:
    readings, _, account = imported(export)
  except SchemaError as error:
    assert "\n" not in str(error)
    return
  for block in readings:
    assert np.isfinite(block.value).all() and (block.end >= block.start).all()
    assert block.device in Apple.devices
  assert sum(account.dropped.values()) <= sum(account.read.values())


@settings(max_examples=50, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=300))
def test_random_bytes_are_refused_or_nothing(tmp_path, raw):
  export = write(tmp_path, b"<HealthData>" + raw)
  with contextlib.suppress(SchemaError):
    readings, stretches, _ = imported(export)
    assert not readings and not stretches  # "</HealthData>" makes an export without a record


@pytest.mark.parametrize("half", ["\u202fpm", " PM", "\xa0p.m.", "pm"])
def test_the_clock_of_twelve_hours(tmp_path, half):
  morning = half.replace("p", "a").replace("P", "A")
  clocks = {f"12:05:00{morning}": 5, f"9:00:00{morning}": 540, f"12:30:00{half}": 750, f"09:01:00{half}": 1261}
  text = health_xml(*(record(QUANTITY + "HeartRate", "62", t(clock), unit="count/min") for clock in clocks), STEPS)
  readings, _, account = imported(write(tmp_path, text))
  midnight = ms("2024-03-31 00:00:00 +0200")
  starts = {int(start - midnight) // 60_000 for r in readings if r.signal == "heart_rate" for start in r.start}
  assert starts == set(clocks.values()) and not account.dropped


@pytest.mark.parametrize("clock", ["13:00:00 pm", "0:30:00 am", "9:00:00 xm", "9:00:00", "9:00 am"])
def test_other_clocks_are_dropped(tmp_path, clock):
  _, _, account = imported(
    write(tmp_path, health_xml(record(QUANTITY + "HeartRate", "62", t(clock), unit="count/min")))
  )
  assert account.dropped == {("p1", "no time with an offset between 1970 and 2100"): 1}


def test_what_was_typed_in_is_marked_and_unread_types_are_counted(tmp_path):
  typed = '  <MetadataEntry key="HKWasUserEntered" value="{}"/>\n'
  text = health_xml(
    *(record(QUANTITY + "StepCount", "5", t("10:00:00"), unit="count", inside=typed.format(n)) for n in (1, 0)),
    record(QUANTITY + "StepCount", "6", t("10:00:00"), unit="count"),
    *RECORDS[16:17] * 3,  # body mass
    record("HKDataTypeA<>".replace("<>", " b"), "1", t("10:00:00")),
    OTHERS.format(HEART),
  )
  readings, _, account = imported(write(tmp_path, text))
  assert sorted((r.device, r.value.tolist()) for r in readings) == [("entered by hand", [5.0]), ("watch", [5.0, 6.0])]
  assert account.passed_over == {
    ("p1", "BodyMass"): 3,
    ("p1", "others"): 1,
    ("p1", "Correlation"): 1,
    ("p1", "ActivitySummary"): 1,
  }
