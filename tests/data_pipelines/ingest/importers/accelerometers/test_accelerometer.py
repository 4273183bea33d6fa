"""Recordings and tables of accelerometers: values worked out here, and by an independent decoder."""

import pathlib
import shutil

import actfast
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.errors import SchemaError
from data_pipelines.ingest.importers.accelerometers import gt3x
from data_pipelines.ingest.importers.accelerometers.accelerometer import Accelerometer
from data_pipelines.ingest.importers.accelerometers.counts import CountFilter
from data_pipelines.ingest.importers.accelerometers.minutes import MinuteSums
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.export_files import Export
from data_pipelines.ingest.reading.owners import Owner
from tests.data_pipelines.ingest.importers.accelerometers import gt3x_files
from tests.data_pipelines.ingest.importers.accelerometers.test_counts import minute_counts
from tests.data_pipelines.ingest.long_tables import run_build
from tests.robustness.imported_days import import_days

FILES = pathlib.Path(__file__).parent / "files"
READER = Accelerometer()
EIGHT = 1_717_488_000  # 2024-06-04 08:00, s
HEAD = """------------ Data Table File Created By ActiGraph wGT3XBT ActiLife v6.13.4 date format {form} Filter Normal --
Serial Number: MOS0000
Start Time 08:00:00
Start Date {date}
Epoch Period (hh:mm:ss) 00:00:{epoch}
Download Time 15:29:12
Download Date {date}
Current Memory Address: 0
Current Battery Voltage: 3.98     Mode = 61
--------------------------------------------------
"""
GAPS = "value of a minute without samples for a tenth of it or more"


def read(path):
  """{(participant, signal): {ms: value}} and the account of an export."""
  account, found, number = Account(), {}, 0
  for name in READER.files(Export(path)):
    for block in READER.read(Export(path, pathlib.PurePath(name).stem), name, account):
      assert block.clock == "wall" and block.offset is None
      series = found.setdefault((block.participant, block.signal), {})
      series.update(zip(block.start.tolist(), block.value.tolist(), strict=True))
      number += len(block.start)
  assert account.read.total() - account.dropped.total() == number
  return found, account


def moving(minutes, rate=30, seed=0):
  """Units of 1/256 g, [seconds, rate, 3], of a device that moves about."""
  return np.random.default_rng(seed).integers(-400, 400, (60 * minutes, rate, 3))


def decoded(log, rate=30, scale=256.0):
  """All samples of a log [n, 3] with their times, and the damage."""
  damage = gt3x.Damage()
  with log as file:
    parts = [part for part in gt3x.samples(file, gt3x.Info(rate, scale, ""), damage) if part[0] == gt3x.ACTIVITY]
  return np.concatenate([time for _, time, _ in parts]), np.concatenate([value for *_, value in parts]), damage


def log_file(tmp_path, content):
  (tmp_path / "log.bin").write_bytes(content)
  return (tmp_path / "log.bin").open("rb")


def test_the_examples_of_the_formats_documents(tmp_path):
  twelve = bytes.fromhex("006008EBD007009EBF007008EBF0")  # Activity.md: y 6, x 8, z -323; 7, 9, -321; 7, 8, -321
  sixteen = bytes.fromhex("0000000000003000CCFF4201")  # Activity2.md: 0, 0, 0; 48, -52, 322
  log = gt3x_files.record(gt3x_files.ACTIVITY, EIGHT, twelve) + bytes(5)
  log += gt3x_files.record(gt3x_files.ACTIVITY2, EIGHT + 1, sixteen) + gt3x_files.record(0x1A, EIGHT + 2, b"\1")
  time, values, damage = decoded(log_file(tmp_path, log), scale=1.0)
  assert values.tolist() == [[8, 6, -323], [9, 7, -321], [8, 7, -321], [0, 0, 0], [48, -52, 322]]
  assert (time - EIGHT * 10**9).tolist() == [0, 33_333_333, 66_666_666, 10**9, 1_033_333_333]
  assert damage.stretches == 0


def test_a_real_gt3x_is_what_another_decoder_reads():
  expected = actfast.read(FILES / "actigraph.gt3x")["timeseries"]["acceleration"]
  with Export(FILES, "x").inside("actigraph.gt3x") as inside:
    info = gt3x.read_info(inside)
    with inside.open("log.bin") as file:
      parts = [part for part in gt3x.samples(file, info, gt3x.Damage()) if part[0] == gt3x.ACTIVITY]
  assert (info.rate, info.scale, info.subject) == (60, 256.0, "Adam_Test")
  assert np.array_equal(np.concatenate([v for *_, v in parts]), expected["acceleration"].astype(float))
  assert np.abs(np.concatenate([t for _, t, _ in parts]) - expected["datetime"]).max() < 1000


@pytest.mark.parametrize("packed", (True, False))
def test_minutes_of_a_gt3x(tmp_path, packed):
  samples = moving(3)
  log = gt3x_files.log_of(EIGHT, samples)
  if packed:
    log = b"".join(
      gt3x_files.record(gt3x_files.ACTIVITY, EIGHT + n, gt3x_files.packed(second)) for n, second in enumerate(samples)
    )
  log += gt3x_files.record(gt3x_files.LUX, EIGHT + 61, bytes([0x2C, 0x01]))
  gt3x_files.write(tmp_path / "NEO.gt3x", log, rate=30)
  found, account = read(tmp_path)
  in_g = samples.reshape(-1, 3) / 256
  enmo = np.maximum(np.sqrt((in_g**2).sum(axis=1)) - 1, 0).reshape(3, -1).mean(axis=1) * 1000
  x, y, z = minute_counts(in_g, 30, []).T
  for signal, expected in (
    ("enmo", enmo),
    ("activity_counts", y),
    ("activity_counts_axis2", x),
    ("activity_counts_axis3", z),
    ("activity_counts_vm", np.sqrt(x**2 + y**2 + z**2)),
  ):
    series = found["NEO", signal]
    assert list(series) == [1000 * (EIGHT + 60 * k) for k in range(3)]
    assert list(series.values()) == pytest.approx(expected.tolist(), rel=1e-12)
  assert found["NEO", "light"] == {1000 * (EIGHT + 61): 300.0}
  assert account.read == {"NEO": 3 * 5 + 1} and not account.dropped


def test_units_of_old_devices_and_the_subject_of_the_file(tmp_path):
  gt3x_files.write(
    tmp_path / "a.gt3x", gt3x_files.log_of(EIGHT, moving(1)), rate=30, serial="CLE2B1", scale="", subject="kim"
  )
  found, _ = read(tmp_path / "a.gt3x")
  size = np.sqrt(((moving(1).reshape(-1, 3) / 341) ** 2).sum(axis=1))
  assert READER.owners(Export(tmp_path), ["a.gt3x"]) == {"a.gt3x": Owner(subject="kim")}
  assert found["a", "enmo"] == {1000 * EIGHT: pytest.approx(1000 * np.maximum(size - 1, 0).mean())}


def test_a_minute_with_a_gap_is_dropped_and_the_counts_begin_anew_after_it(tmp_path):
  samples = moving(4)
  seconds = [n for n in range(240) if not 70 <= n < 80]
  log = b"".join(gt3x_files.log_of(EIGHT + n, samples[n : n + 1]) for n in seconds)
  gt3x_files.write(tmp_path / "a.gt3x", log, rate=30)
  found, account = read(tmp_path / "a.gt3x")
  tenths = CountFilter(30).counts(samples[80:].reshape(-1, 3) / 256)[1]  # the filter starts at 80 s
  before = minute_counts(samples[:60].reshape(-1, 3) / 256, 30, [])[0, 1]
  at = [1000 * (EIGHT + 60 * k) for k in (0, 2, 3)]
  expected = [before, tenths[400:1000].sum(), tenths[1000:].sum()]
  assert found["a", "activity_counts"] == dict(zip(at, expected, strict=True))
  assert account.read == {"a": 4 * 5}
  assert account.dropped == {("a", GAPS): 5}
  assert account.example["a", GAPS].endswith("a.gt3x at 2024-06-04T08:01")


def test_damage_costs_the_records_concerned(tmp_path):
  log = bytearray(gt3x_files.log_of(EIGHT, moving(10)))
  log[100] ^= 0xFF  # within the first second
  log[len(log) // 2] ^= 0x55
  gt3x_files.write(tmp_path / "a.gt3x", bytes(log[:-7]), rate=30)
  found, account = read(tmp_path / "a.gt3x")
  assert len(found["a", "enmo"]) == 10  # three minutes have 59 s
  assert account.dropped == {("a", "damaged stretch of log.bin"): 3}
  assert account.example["a", "damaged stretch of log.bin"].endswith("a.gt3x from byte 0 of log.bin on")


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_hostile_log_gives_samples_or_damage(tmp_path_factory, data):
  log = bytearray(gt3x_files.log_of(EIGHT, moving(1)[:20]))
  for place in data.draw(st.lists(st.integers(0, len(log) - 1), max_size=6)):
    log[place] = data.draw(st.integers(0, 255))
  cut = data.draw(st.integers(1, len(log)))
  folder = tmp_path_factory.mktemp("hostile")
  gt3x_files.write(folder / "a.gt3x", bytes(log[:cut]), rate=data.draw(st.sampled_from((30, 31, 100))))
  read(folder / "a.gt3x")


def test_a_log_of_nothing_but_separators_is_refused_soon(tmp_path, monkeypatch):
  monkeypatch.setattr(gt3x, "_MOST_WRONG", 1000)
  gt3x_files.write(tmp_path / "a.gt3x", b"\x1e" * 200_000, rate=30)
  with pytest.raises(SchemaError, match=r"a\.gt3x/log\.bin: has more than 1,000 wrong checksums up to byte 1,000"):
    read(tmp_path)


def test_both_wrists_are_two_devices(tmp_path):
  for n, serial in enumerate(("MOS2A1", "MOS2A2")):
    log = gt3x_files.log_of(EIGHT, moving(2, seed=n))
    gt3x_files.write(tmp_path / f"{serial}.gt3x", log, rate=30, subject="kim", serial=serial)
  table(tmp_path / "kim (2024-06-04)60sec.csv", ["6/4/2024,08:00:00,3,4,0,0,0"])
  for name in ("geneactiv.bin", "axivity_ax3.cwa"):
    shutil.copy(FILES / name, tmp_path)
  export, devices = Export(tmp_path), {}
  for name in READER.files(export):
    devices[name] = {block.device for block in READER.read(export, name, Account())}
  assert devices == {
    "MOS2A1.gt3x": {"1 samples MOS2A1"},
    "MOS2A2.gt3x": {"1 samples MOS2A2"},
    "axivity_ax3.cwa": {"1 samples 39434"},
    "geneactiv.bin": {"1 samples 101806"},
    "kim (2024-06-04)60sec.csv": {"2 epochs MOS0000"},
  }


def test_what_is_no_gt3x_is_one_line(tmp_path):
  (tmp_path / "a.gt3x").write_bytes(b"nothing")
  with pytest.raises(SchemaError, match=r"a\.gt3x: not a zip"):
    read(tmp_path / "a.gt3x")
  gt3x_files.write(tmp_path / "b.gt3x", b"", rate="fast")
  with pytest.raises(SchemaError, match="'Sample Rate' is 'fast', expected a number"):
    read(tmp_path / "b.gt3x")
  (tmp_path / "c.cwa").write_bytes(b"MD" + bytes(2000))
  with pytest.raises(SchemaError, match=r"c\.cwa: "):
    read(tmp_path / "c.cwa")


def test_a_device_that_lies_still_is_not_worn():
  sums = MinuteSums(10)
  noise = np.random.default_rng(0).normal((0, 0, 1), 0.002, (10 * 60 * 180, 3))
  noise[: 10 * 60 * 60] += 0.5 * np.sin(np.arange(10 * 60 * 60) / 7)[:, None]  # the first hour is worn
  sums.add(EIGHT * 10**9 + np.arange(len(noise)) * 10**8, noise)
  minutes = sums.minutes()
  # A quarter is still if the hour around it is: of the quarters from 9:00 on, the first two look back before 9:00.
  assert np.flatnonzero(~minutes.worn).tolist() == list(range(90, 180))


def test_a_clock_put_back_is_counted_and_a_drifting_one_interpolated():
  sums, second = MinuteSums(50), 10**9
  time = EIGHT * second + (np.arange(50 * 130) * second / 49.5).astype(np.int64)  # it samples more slowly than it says
  wave = np.sin(2 * np.pi * 0.8 * (time - time[0]) / second)[:, None] * [1.0, 0.5, 0]
  sums.add(time, wave)
  for part in (slice(-200, -100), slice(-100, None)):  # of one minute, in two blocks
    sums.add(time[part] - 60 * second, wave[part])
  minutes = sums.minutes()
  regular = np.sin(2 * np.pi * 0.8 * np.arange(50 * 120) / 50)[:, None] * [1.0, 0.5, 0]
  assert sums.repeated == 1 and minutes.whole.tolist() == [True, True, False]
  assert pytest.approx(minute_counts(regular, 50, []), rel=0.01) == minutes.counts[:, :2].T


def test_geneactiv_by_the_text_of_the_file():
  found, _ = read(FILES / "geneactiv.bin")
  lines = (FILES / "geneactiv.bin").read_text().splitlines()
  gains = {
    line.partition(":")[0]: int(line.partition(":")[2]) for line in lines[:59] if " gain:" in line or " offset:" in line
  }
  pages = [n for n, line in enumerate(lines) if line == "Recorded Data"]
  norms = []
  for n in pages:
    text = lines[n + 9]
    for i in range(0, len(text) - 11, 12):
      raw = [int(text[i + 3 * a : i + 3 * a + 3], 16) for a in range(3)]
      axes = [
        (100 * (v - 4096 * (v > 2047)) - gains[f"{a} offset"]) / gains[f"{a} gain"]
        for v, a in zip(raw, "xyz", strict=True)
      ]
      norms.append(np.sqrt(sum(v * v for v in axes)))
  assert len(norms) == 6000  # from 15:13:30 on at 60 Hz: 1,800 of them before 15:14
  expected = 1000 * np.maximum(np.array(norms[1800:5400]) - 1, 0).mean()
  assert list(found["geneactiv", "enmo"].values()) == [pytest.approx(expected, rel=1e-5)]
  (start,) = found["geneactiv", "enmo"]
  assert np.datetime64(start, "ms") == np.datetime64("2024-04-30T15:14")
  pages = [float(line.partition(":")[2]) for line in lines if line.startswith("Temperature:")]
  means = [np.mean(pages[:6]), np.mean(pages[6:18]), np.mean(pages[18:])]  # pages of 5 s, from 15:13:30 on
  assert list(found["geneactiv", "temperature"].values()) == pytest.approx(means)


def test_axivity_by_the_bytes_of_the_file():
  found, account = read(FILES / "axivity_ax3.cwa")
  content = (FILES / "axivity_ax3.cwa").read_bytes()
  raw = [int.from_bytes(content[at + 20 : at + 22], "little") for at in range(1024, len(content), 512)]
  expected = [(value & 0x3FF) * 75 / 256 - 50 for value in raw]  # ax3-technical.md, of openmovement
  assert list(found["axivity_ax3", "temperature"].values()) == pytest.approx([np.mean(expected)])
  assert account.dropped == {("axivity_ax3", GAPS): 5}  # it has 36 s


def test_a_stray_byte_of_a_geneactiv_costs_its_page(tmp_path):
  content = bytearray((FILES / "geneactiv.bin").read_bytes())
  content[content.rindex(b"Recorded Data") + 400] = 0xFF
  (tmp_path / "a.bin").write_bytes(content)
  found, account = read(tmp_path)
  assert found["a", "temperature"] and account.dropped["a", "damaged stretch of the file"] == 2


@settings(max_examples=15, deadline=None)
@given(
  name=st.sampled_from(("geneactiv.bin", "axivity_ax3.cwa")),
  changes=st.lists(st.tuples(st.integers(0, 16_383), st.integers(0, 255)), max_size=20),
  end=st.integers(0, 16_384),
)
def test_a_hostile_recording_is_read_counted_or_refused_with_a_line(tmp_path_factory, name, changes, end):
  content = bytearray((FILES / name).read_bytes())
  for place, byte in changes:
    content[place] = byte
  path = tmp_path_factory.mktemp("hostile") / name
  path.write_bytes(content[: end or None])
  try:
    read(path)
  except SchemaError as error:
    assert "\n" not in str(error)


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.text('0123456789/:,;. "-eé\n', max_size=40), max_size=8))
def test_a_hostile_table_is_read_counted_or_refused_with_a_line(tmp_path_factory, rows):
  path = tmp_path_factory.mktemp("hostile") / "a.csv"
  table(path, rows)
  try:
    read(path)
  except SchemaError as error:
    assert "\n" not in str(error)


def table(path, rows, form="M/d/yyyy", date="6/4/2024", epoch="60", columns="Date, Time, Axis1,Axis2,Axis3,Steps,Lux"):
  path.write_text(HEAD.format(form=form, date=date, epoch=epoch) + "\n".join([columns, *rows]) + "\n")


def test_the_case_of_an_epoch_table(tmp_path):
  rows = [f"6/4/2024,08:0{k}:00,{100 * k},{20 * k},{10 * k},{k},0" for k in range(5)]
  who = "NEO1 (2024-06-04)60sec"
  table(tmp_path / f"{who}.csv", rows)
  found, account = read(tmp_path)
  at = [1000 * (EIGHT + 60 * k) for k in range(5)]
  assert found[who, "activity_counts"] == {at[k]: 100 * k for k in range(5)}
  assert found[who, "steps"] == {at[k]: k for k in range(5)}
  assert found[who, "activity_counts_vm"] == {at[k]: pytest.approx(k * np.sqrt(10_500)) for k in range(5)}
  assert account.read == {who: 5 * 5 + 5} and not account.dropped


def test_dates_delimiters_and_tables_without_times(tmp_path):
  rows = [f"04.06.2024;08:00:{15 * k:02d};{k};0;0" for k in range(4)]
  table(tmp_path / "a.csv", rows, "dd.MM.yyyy", "04.06.2024", "15", "Date;Time;Axis1;Axis2;Axis3")
  table(tmp_path / "b.csv", [f"{k},0,0" for k in range(4)], epoch="15", columns="Axis1,Axis2,Axis3")
  found, _ = read(tmp_path)
  for person in "ab":
    assert found[person, "activity_counts"] == {1000 * (EIGHT + 15 * k): k for k in range(4)}
    assert found[person, "activity_counts_vm"] == {1000 * EIGHT: 6}


def test_damaged_rows_of_a_table_without_times_are_epochs_too(tmp_path, monkeypatch):
  table(tmp_path / "a.csv", ["0,0,0", "1,0", "2,0,0", "3", "4", "5,0,0"], columns="Axis1,Axis2,Axis3")
  expected = {1000 * (EIGHT + 60 * k): k for k in (0, 2, 5)}
  assert read(tmp_path)[0]["a", "activity_counts"] == expected
  monkeypatch.setattr("data_pipelines.ingest.reading.csv_batches.BLOCK_BYTES", 8)  # some have no good row
  assert read(tmp_path)[0]["a", "activity_counts"] == expected


def test_a_table_without_times_may_start_in_the_afternoon(tmp_path):
  table(tmp_path / "a.csv", ["1,0,0"], columns="Axis1,Axis2,Axis3")
  text = (tmp_path / "a.csv").read_text()
  (tmp_path / "a.csv").write_text(text.replace("Start Time 08:00:00", "Start Time 8:00:00 PM"))
  assert list(read(tmp_path)[0]["a", "activity_counts"]) == [1000 * (EIGHT + 12 * 3600)]


def test_the_magnitude_of_long_epochs_has_their_times(tmp_path):
  rows = [f"6/4/2024,08:{7 * k:02d}:00,3,4,0,0,0" for k in range(3)]
  table(tmp_path / "a.csv", rows)
  text = (tmp_path / "a.csv").read_text()
  (tmp_path / "a.csv").write_text(text.replace("00:00:60", "00:07:00"))
  found, _ = read(tmp_path)
  assert found["a", "activity_counts_vm"] == {1000 * (EIGHT + 420 * k): 5 for k in range(3)}


@pytest.mark.parametrize("epoch", (20, 60))
def test_an_epoch_that_is_there_twice_counts_once_in_every_channel(tmp_path, monkeypatch, epoch):
  monkeypatch.setattr("data_pipelines.ingest.reading.csv_batches.BLOCK_BYTES", 256)
  names = "Date, Time, Axis1,Axis2,Axis3,Steps,Vector Magnitude"
  once = [f"6/4/2024,08:{s // 60:02d}:{s % 60:02d},{s + 9},{2 * s},{s // 3},{s % 7},{s}" for s in range(0, 600, epoch)]
  smaller = ["6/4/2024,08:01:00,3,900,1,0,4"]  # counted again: the larger count of each axis
  more = [line.replace("69,120,20", "69,900,20") for line in once]  # what both rows say together
  for case, rows in {"once": more, "twice": [*once, *smaller, *once[3:], once[0]], "back": [*smaller, *once]}.items():
    (tmp_path / case).mkdir()
    table(tmp_path / case / "a.csv", rows, epoch=f"{epoch}", columns=names)
  expected, twice, back = (import_days(tmp_path / case / "a.csv") for case in ("once", "twice", "back"))
  assert twice.values == back.values == expected.values
  assert {channel for *_, channel in expected.values} >= {"activity_counts_axis2", "activity_counts_vm", "steps"}
  sums = {axis: expected.of(axis) for axis in ("activity_counts", "activity_counts_axis2", "activity_counts_axis3")}
  for minute, size in expected.of("activity_counts_vm").items():
    assert size == pytest.approx(np.sqrt(sum(counts.get(minute, 0) ** 2 for counts in sums.values())), rel=1e-6)


def test_a_date_that_contradicts_the_tables_date_format_costs_the_table(tmp_path):
  table(tmp_path / "a.csv", ["4/6/2024,08:00:00,1,0,0,0,0", "13/6/2024,08:00:00,1,0,0,0,0"])
  with pytest.raises(SchemaError, match=r"a.csv row 13 \('13/6/2024'\): a date with the day first, expected the month"):
    read(tmp_path)
  table(tmp_path / "a.csv", ["4/6/2024,08:00:00,1,0,0,0,0", "13/6/2024,08:00:00,1,0,0,0,0"], form="d/M/yyyy")
  assert len(read(tmp_path)[0]["a", "activity_counts"]) == 2


def test_bad_rows_of_a_table_are_counted(tmp_path):
  rows = ["6/4/2024,08:00:00,1,2,3,4,5", "6/4/2024,8 o'clock,1,2,3,4,5", "6/4/2024,08:02:00,x,2,3,4,5", "6/4/2024,1"]
  table(tmp_path / "a.csv", rows)
  found, account = read(tmp_path)
  assert list(found["a", "activity_counts"].values()) == [1]
  assert account.read == {"a": 6 + 5 + 5 + 1} and sum(account.dropped.values()) == 11


@pytest.mark.parametrize(
  "head, message",
  [
    (HEAD.replace("date format {form} ", ""), "says no epoch, date format"),
    (HEAD.replace("-" * 50, ""), "no line of dashes"),
    (HEAD.replace("{form}", "Qd"), "the date format 'Qd'"),
  ],
)
def test_a_head_that_is_not_actilifes_is_one_line(tmp_path, head, message):
  (tmp_path / "a.csv").write_text(head.format(form="M/d/yyyy", date="6/4/2024", epoch="60") + "Axis1\n1\n")
  with pytest.raises(SchemaError, match=message):
    read(tmp_path)


def test_samples_and_tables_of_two_people_become_a_dataset(tmp_path, capsys):
  exports = tmp_path / "study"
  exports.mkdir()
  gt3x_files.write(exports / "a.gt3x", gt3x_files.log_of(EIGHT, moving(20)), rate=30, subject="kim")
  gt3x_files.write(exports / "b.gt3x", gt3x_files.log_of(EIGHT + 86_400, moving(20)), rate=30, subject="kim")
  rows = [f"6/4/2024,{8 + k // 60:02d}:{k % 60:02d}:00,{k % 7},{k % 5},1,0,0" for k in range(120)]
  table(exports / "kim (2024-06-04)60sec.csv", rows)
  table(exports / "sam (2024-06-04)60sec.csv", rows)
  shutil.copy(FILES / "axivity_ax3.cwa", exports)
  assert run_build("--source=auto", f"--input={exports}", "--dry_run", "--max_missing=1") == 0
  output = capsys.readouterr().out
  assert "--source=accelerometer" in output and "would build 4 days of 3 people" in output  # kim has two
  assert "- enmo (milligravity): mean" in output and "- activity_counts_vm (counts): sum" in output


def test_a_table_is_not_worn_in_ninety_minutes_without_counts(tmp_path):
  still = [*range(100, 195), *range(300, 380)]  # 95 minutes are long enough for Choi et al. (2011), 80 are not
  rows = []
  for k in range(480):
    counts = "0,0,0" if k in still else "50,40,30"
    rows.append(f"6/4/2024,{8 + k // 60:02d}:{k % 60:02d}:00,{counts},0,0")
  table(tmp_path / "a.csv", rows)
  imported = import_days(tmp_path / "a.csv")
  counts = imported.of("activity_counts", zeros=True)
  absent = {f"{8 + k // 60:02d}:{k % 60:02d}" for k in range(480)} - set(counts)
  assert absent == {f"{8 + k // 60:02d}:{k % 60:02d}" for k in range(100, 195)}
  assert imported.dropped == {"zero while not worn": 5 * 95}  # three axes, their magnitude, and steps
