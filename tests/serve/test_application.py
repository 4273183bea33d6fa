"""Requests to a service in this process: results as in Python, limits, and one line for whatever is wrong."""

import concurrent.futures
import contextlib
import dataclasses
import http.client
import json
import subprocess
import sys
import threading

import numpy as np
import pyarrow as pa
import pytest

from aim.serve import messages
from aim.training.checkpoint import CheckpointError
from tests import tiny
from tests.serve.conftest import LIMITS

VALUES = tiny.arrays(people=2)["values"]
NAMES = ("pulse", "steps", "asleep")
STEPS = 24


def nested(values: np.ndarray) -> list:
  return [[[None if np.isnan(x) else float(x) for x in step] for step in day] for day in values]


def objects(values: np.ndarray, names=NAMES) -> list:
  by_channel = nested(values.swapaxes(1, 2))
  return [dict(zip(names, day, strict=True)) for day in by_channel]


def stream(columns: dict, fields: dict | None = None, metadata: dict | None = None) -> bytes:
  table = pa.table(columns, metadata=metadata)
  for name, metadata in (fields or {}).items():
    i = table.schema.get_field_index(name)
    table = table.set_column(i, table.schema.field(i).with_metadata(metadata), table.column(i))
  sink = pa.BufferOutputStream()
  with pa.ipc.new_stream(sink, table.schema) as writer:
    writer.write_table(table, max_chunksize=2)
  return sink.getvalue().to_pybytes()


def columns(values: np.ndarray, names=NAMES) -> dict:
  lists = lambda c: pa.array([list(day) for day in values[:, :, c]], pa.list_(pa.float32()))
  return {name: lists(c) for c, name in enumerate(names)}


def read_stream(body: bytes) -> dict[str, np.ndarray]:
  table = pa.ipc.open_stream(body).read_all()
  return {name: np.stack(table.column(name).to_numpy(zero_copy_only=False)) for name in table.column_names}


def test_embeddings_are_those_of_python(client, model):
  expected = model.embed(VALUES)
  plain = client.post("/embed", {"days": nested(VALUES)})
  assert plain.status == 200 and plain.headers["content-type"] == "application/json"
  assert plain.json.keys() == {"embeddings"}
  by_name = client.post("/embed", {"days": objects(VALUES)})
  arrow = client.post("/embed", stream(columns(VALUES)), messages.ARROW)
  assert arrow.headers["content-type"] == messages.ARROW
  for actual in (plain.json["embeddings"], by_name.json["embeddings"], read_stream(arrow.body)["embedding"]):
    np.testing.assert_allclose(np.array(actual, np.float32), expected, rtol=1e-5, atol=1e-5)


def test_filled_days_are_those_of_python(client, model):
  expected, seen = model.impute(VALUES), ~np.isnan(VALUES)
  plain = np.array(client.post("/impute", {"days": nested(VALUES)}).json["days"])
  by_name = client.post("/impute", {"days": objects(VALUES)}).json["days"]
  arrow = read_stream(client.post("/impute", stream(columns(VALUES)), messages.ARROW).body)
  assert list(by_name[0]) == list(arrow) == list(NAMES)
  from_names = np.array([[day[name] for name in NAMES] for day in by_name]).swapaxes(1, 2)
  for actual in (plain, from_names, np.stack([arrow[name] for name in NAMES], axis=-1)):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-4)
    assert np.array_equal(actual[seen].astype(np.float32), VALUES[seen])


def test_an_empty_day_is_filled(client, model):
  empty = np.full((1, STEPS, 3), np.nan, np.float32)
  filled = client.post("/impute", {"days": nested(empty)}).json["days"]
  np.testing.assert_allclose(filled, model.impute(empty), rtol=1e-5, atol=1e-4)


def test_days_of_other_channels_and_steps_are_matched_and_the_client_is_told(client, model):
  half = np.repeat(VALUES[:, :, :2], 2, axis=1)[:, :, ::-1]  # steps, pulse by the half hour
  body = {"days": nested(half), "channels": ["steps", "pulse"], "minutes_per_step": 30}
  answer = client.post("/embed", body).json
  expected = model.embed(half, channels=["steps", "pulse"], minutes_per_step=30)
  np.testing.assert_allclose(answer["embeddings"], expected, rtol=1e-5, atol=1e-5)
  assert answer["notes"] and "asleep" in " ".join(answer["notes"])
  more = np.concatenate([VALUES, np.full_like(VALUES[:, :, :1], np.nan)], axis=2)
  filled = client.post("/impute", {"days": objects(more, (*NAMES, "mood"))}).json
  assert filled["days"][0]["mood"] == [None] * STEPS and "mood" in " ".join(filled["notes"])
  units = {"pulse": {"unit": "bpm"}, "steps": {"unit": "count"}}
  arrow = client.post("/impute", stream(columns(VALUES[:, :, :2], NAMES[:2]), units), messages.ARROW)
  assert list(read_stream(arrow.body)) == ["pulse", "steps"]
  assert json.loads(pa.ipc.open_stream(arrow.body).schema.metadata[b"notes"])


def test_a_channel_that_a_day_lacks_is_missing_there(client, model):
  days = objects(VALUES)
  del days[1]["steps"]
  expected = VALUES.copy()
  expected[1, :, 1] = np.nan
  np.testing.assert_allclose(
    client.post("/embed", {"days": days}).json["embeddings"], model.embed(expected), rtol=1e-5, atol=1e-5
  )


def test_concurrent_clients_get_their_own_days(client, model):
  expected = model.embed(VALUES)
  with concurrent.futures.ThreadPoolExecutor(LIMITS.requests) as pool:
    rows = [row % len(VALUES) for row in range(40)]
    answers = list(pool.map(lambda row: client.post("/embed", {"days": nested(VALUES[row : row + 1])}), rows))
  assert {answer.status for answer in answers} == {200}
  for row, answer in zip(rows, answers, strict=True):
    np.testing.assert_allclose(answer.json["embeddings"], expected[row : row + 1], rtol=1e-5, atol=1e-5)


def test_health_and_model(client, model):
  assert client.ask("GET", "/health").json == {"status": "ok", "requests": 0, "days_waiting": 0}
  about = client.ask("GET", "/model").json
  assert [channel["name"] for channel in about["channels"]] == list(NAMES)
  assert [channel["unit"] for channel in about["channels"]] == ["bpm", "count", ""]
  assert (about["minutes_per_step"], about["steps"], about["embedding_width"]) == (60, STEPS, 16)
  assert about["functions"] == ["embed", "impute"] and about["parameters"] == model.parameters_digest
  assert about["limits"] == {"days": 12, "body_bytes": 40_000, "requests": 6, "silence": 20}


DAY = nested(VALUES[:1])[0]


def changed(step, channel, value):
  day = json.loads(json.dumps(DAY))
  day[step][channel] = value
  return day


@pytest.mark.parametrize(
  ("body", "status", "message"),
  [
    (b"{", 400, "body: is no JSON: "),
    (b"", 400, "body: is no JSON: "),
    (b"\xff\xfe", 400, "body: is no JSON: "),
    (b'{"days": [[[NaN]]]}', 400, "body: is no JSON: "),
    (b'{"days": [], "days": []}', 400, "body: key 'days' appears more than once in one object"),
    (b'{"days": [{"pulse": [1], "pulse": [2]}]}', 400, "body: key 'pulse' appears more than once in one object"),
    (b'{"days": [], "units": {"pulse": "bpm", "pul\\u0073e": "Hz"}}', 400, "body: key 'pulse' appears more than once"),
    (b"[1]", 400, 'body: expected a JSON object with the key "days"'),
    ({"day": []}, 400, "body: unknown key 'day'; did you mean 'days'?"),
    ({"weights": 1}, 400, "body: unknown key 'weights', expected days, channels, minutes_per_step, units"),
    ({}, 400, "days: is missing, expected a list of days"),
    ({"days": 3}, 400, "days: is 3, expected a list of days"),
    ({"days": []}, 400, "days: there are none"),
    ({"days": [[]]}, 400, "days[0]: is an empty list, expected a list of steps"),
    ({"days": [DAY, DAY[:5]]}, 400, "days[1]: has 5 steps, days[0] has 24"),
    ({"days": [DAY, None]}, 400, "days[1]: is null, expected a list of steps"),
    ({"days": [[*DAY[:3], [1.0], *DAY[4:]]]}, 400, "days[0][3]: has 1 channels, days[0][0] has 3"),
    ({"days": [[*DAY[:3], 7, *DAY[4:]]]}, 400, "days[0][3]: is 7, expected a list with a number or null per channel"),
    ({"days": [changed(2, 1, "70")]}, 400, "days[0][2][1]: is \"70\", expected a number or null"),
    ({"days": [changed(2, 1, True)]}, 400, "days[0][2][1]: is true, expected a number or null"),
    ({"days": [changed(2, 1, [1.0])]}, 400, "days[0][2][1]: is a list, expected a number or null"),
    ({"days": [DAY[:5]]}, 400, "embed: values have shape (1, 5, 3), expected [..., 24, 3]"),
    ({"days": [changed(2, 2, 0.5)]}, 400, "embed: row 0 step 2 binary channel 'asleep' holds 0.5, expected 0"),
    ({"days": [changed(2, 0, 1e300)]}, 400, "embed: row 0 step 2 channel 'pulse' is 1e+300, expected at most"),
    ({"days": [[[None] * 3] * STEPS]}, 400, "embed: row 0 has no observed value; a day needs at least one"),
    ({"days": [DAY], "channels": "pulse"}, 400, "channels: expected a list of names"),
    ({"days": [DAY], "channels": ["pulse", "steps"]}, 400, "days: values have shape (1, 24, 3), expected"),
    ({"days": [DAY], "channels": ["a", "b", "c"]}, 400, "days: none of the channels a, b, c is one of pulse"),
    ({"days": [DAY], "minutes_per_step": 30}, 400, "days: days have 24 steps of 30 min, expected"),
    ({"days": [DAY], "minutes_per_step": "5"}, 400, "minutes_per_step: is \"5\", expected a whole number"),
    ({"days": [DAY], "units": ["bpm"]}, 400, "units: expected an object of channels and their units"),
    ({"days": [DAY], "units": {"pulse": "miles"}}, 400, "days: "),
    ({"days": [{}]}, 400, "days[0]: is an empty object, expected an object of channels"),
    ({"days": [{"pulse": [1] * STEPS}, []]}, 400, "days[1]: is an empty list, expected an object of channels"),
    ({"days": [{"pulse": 5}]}, 400, "days[0] channel 'pulse': is 5, expected a list with a number or null per step"),
    ({"days": [{"pulse": [1] * 24, "steps": [1]}]}, 400, "days[0] channel 'steps': has 1 steps, expected 24"),
    ({"days": [{"pulse": ["x"] * 24}]}, 400, "days[0] channel 'pulse'[0]: is \"x\", expected a number or null"),
    ({"days": [{"pulse": [1] * 24}], "channels": ["pulse"]}, 400, "channels: the days are objects"),
    ({"days": [DAY] * 13}, 413, "days: 13 of them, expected at most 12 per request"),
    (b" " * 40_001, 413, "the body is larger than 40,000 bytes"),
  ],
  ids=lambda value: "" if not isinstance(value, str) else value[:40],
)  # fmt: skip
def test_whatever_is_wrong_is_told_in_one_line(client, body, status, message):
  answer = client.post("/embed", body)
  assert answer.status == status, answer
  assert answer.json.keys() == {"error"}
  assert answer.json["error"].startswith(message) and "\n" not in answer.json["error"]


@pytest.mark.parametrize(
  ("body", "message"),
  [
    (b"ARROW", "body: is no Arrow IPC stream: "),
    (stream({"pulse": pa.array([], pa.list_(pa.float32()))}), "body: has 0 days and 1 channels"),
    (stream({"pulse": [70.0, 71.0]}), "column 'pulse': is double, expected a list of numbers in each row"),
    (stream({"pulse": [[70.0], [1.0, 2.0]]}), "column 'pulse': has rows of different lengths"),
    (stream({"pulse": [[70.0], None]}), "column 'pulse': row 1 is null, expected a list"),
    (stream({"pulse": [["a"]]}), "column 'pulse': is list<item: string>, expected a list of numbers"),
    (stream({"pulse": [[1.0, 2.0]], "steps": [[1.0]]}), "column 'steps': has 1 steps, column 'pulse' has 2"),
    (stream(columns(np.repeat(VALUES, 4, axis=0))), "days: "),
    (stream(columns(VALUES))[:-8], "body: the Arrow IPC stream ends after"),
    (stream(columns(VALUES)) + stream(columns(VALUES)), "body: 2,384 bytes follow the end"),
    (stream(columns(VALUES), {"pulse": {"units": "bpm"}}), "column 'pulse': metadata 'units', expected 'unit'"),
    (stream(columns(VALUES), None, {"minutes_per_step": "30"}), "body: metadata 'minutes_per_step' of the stream"),
  ],
  ids=str,
)
def test_what_is_wrong_in_a_stream(client, body, message):
  answer = client.post("/embed", body, messages.ARROW)
  assert answer.status in (400, 413) and answer.json["error"].startswith(message), answer


@pytest.mark.parametrize(
  ("method", "path", "media_type", "status", "message"),
  [
    ("GET", "/embed", "application/json", 405, "Method Not Allowed"),
    ("GET", "/nothing", None, 404, "Not Found"),
    ("POST", "/embed?pool=channel", "application/json", 400, "query: 'pool=channel', expected none"),
    ("POST", "/impute?level=0.9", "application/json", 400, "query: 'level=0.9', expected none"),
    ("GET", "/model?name=other", None, 400, "query: 'name=other', expected none"),
    ("POST", "/embed", "text/csv", 415, "content-type: 'text/csv', expected application/json or application/vnd"),
    ("POST", "/embed", "application/json; charset=ISO-8859-1", 415, "content-type: charset 'iso-8859-1', expected utf"),
    ("POST", "/embed", "application/json; q=1; CHARSET=utf-16", 415, "content-type: charset 'utf-16', expected utf-8"),
    ("POST", "/embed", 'application/json; charset="utf-8"', 400, "days: is missing, expected a list"),
  ],
)
def test_other_requests_are_refused(client, method, path, media_type, status, message):
  answer = client.ask(method, path, b"{}", media_type)
  assert answer.status == status and answer.json["error"].startswith(message)


def test_a_body_without_a_length_is_limited_too(client):
  connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
  parts = iter([b" " * 15_000] * 3)
  connection.request("POST", "/embed", parts, {"Content-Type": messages.JSON}, encode_chunked=True)
  response = connection.getresponse()
  assert response.status == 413 and json.loads(response.read())["error"] == "the body is larger than 40,000 bytes"
  connection.close()


def test_a_body_that_is_too_large_is_received_up_to_a_point(client):
  """So that a client that sends before it reads sees the answer; of many times the limit, it may not."""
  assert client.post("/embed", b" " * 4 * LIMITS.body_bytes).status == 413
  with contextlib.suppress(ConnectionError):
    assert client.post("/embed", b" " * 500 * LIMITS.body_bytes).status == 413
  assert client.ask("GET", "/health").json["requests"] == 0


def test_a_model_that_is_not_finite_is_no_fault_of_the_client(client, model, monkeypatch):
  def embed(self, *_):
    raise CheckpointError("embed: the result for row 0 is NaN or Inf")

  monkeypatch.setattr(type(model), "embed", embed)
  answer = client.post("/embed", {"days": [DAY]})
  assert (answer.status, answer.json) == (500, {"error": "embed: the result for row 0 is NaN or Inf"})


def test_a_compressed_body_is_refused(client):
  connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
  connection.request("POST", "/embed", b"x", {"Content-Encoding": "gzip"})
  response = connection.getresponse()
  assert (response.status, json.loads(response.read())["error"]) == (415, "content-encoding: 'gzip', expected none")
  connection.close()


def test_requests_beyond_the_places_are_refused_until_one_is_free(client, model, monkeypatch):
  entered, go_on = threading.Semaphore(0), threading.Event()
  original = type(model).embed

  def waiting(self, *arguments):
    entered.release()
    assert go_on.wait(60)
    return original(self, *arguments)

  monkeypatch.setattr(type(model), "embed", waiting)
  body = {"days": [DAY]}
  with concurrent.futures.ThreadPoolExecutor(LIMITS.requests) as pool:
    taken = [pool.submit(client.post, "/embed", body) for _ in range(LIMITS.requests)]
    assert all(entered.acquire(timeout=60) for _ in taken)
    refused = client.post("/embed", body)
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert refused.json == {"error": "6 requests are in work; try again"}
    assert client.ask("GET", "/health").json["requests"] == LIMITS.requests
    go_on.set()
    assert {answer.result(60).status for answer in taken} == {200}
  assert client.post("/embed", body).status == 200


def test_what_nobody_foresaw_is_a_line_too(client, model, monkeypatch):
  monkeypatch.setattr(type(model), "embed", lambda *_: 1 / 0)
  answer = client.post("/embed", {"days": [DAY]})
  assert (answer.status, answer.json) == (500, {"error": "internal error; the service's log has it"})


DAMAGED_STREAMS = """
import struct, sys
import numpy as np
from aim.serve import messages
from data_pipelines.errors import UserError
whole = open(sys.argv[1], "rb").read()
lengths = struct.pack("<iii", 0, 24, 48)
place = whole.index(lengths)
bodies = [
  whole[:place] + struct.pack("<iii", *offsets) + whole[place + 12 :]
  for offsets in ((0, 2**30, 48), (0, -5, 48), (48, 24, 0), (24, 0, 24), (0, 0, 1440), (1000, 1024, 1048))
]
random = np.random.default_rng(0)
for _ in range(3000):
  body = bytearray(whole)
  for at in random.integers(0, len(body), random.integers(1, 5)):
    body[at] = random.integers(256)
  bodies.append(bytes(body))
refused = 0
for body in bodies:
  try:
    messages.read(body, messages.ARROW, 256)
  except UserError as error:
    refused += 1
    assert "\\n" not in str(error)
print(refused)
"""


def test_damaged_streams_are_refused_and_end_no_process(tmp_path):
  (tmp_path / "stream").write_bytes(stream(columns(VALUES[:2])))
  command = [sys.executable, "-c", DAMAGED_STREAMS, str(tmp_path / "stream")]
  ended = subprocess.run(command, capture_output=True, text=True, cwd=tiny.ROOT)
  assert ended.returncode == 0, (ended.returncode, ended.stderr[-2000:])
  assert int(ended.stdout) > 500


def test_a_client_that_stops_sending_is_given_up(client, service):
  limits = service.limits
  service.limits = dataclasses.replace(limits, silence=0.3)
  try:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)) as connection:
      connection.putrequest("POST", "/embed")
      connection.putheader("Content-Type", messages.JSON)
      connection.putheader("Content-Length", "1000")
      connection.endheaders(b"{")
      response = connection.getresponse()
      assert response.status == 408
      assert json.loads(response.read()) == {"error": "no more of the body came for 0.3 s"}
  finally:
    service.limits = limits
