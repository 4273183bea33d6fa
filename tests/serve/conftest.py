"""A service of a tiny model in this process, and a client of the standard library."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from typing import Any, NamedTuple

import jax
import pytest
import uvicorn

from aim.serve.application import Limits, Service
from aim.serve.batched_model import BatchedModel
from aim.training.trained import exported
from tests.training.trained.test_exported import restored

LIMITS = Limits(days=12, body_bytes=40_000, requests=6)


class Answer(NamedTuple):
  status: int
  headers: dict[str, str]
  body: bytes

  @property
  def json(self) -> Any:
    return json.loads(self.body)


class Client(NamedTuple):
  port: int

  def ask(self, method: str, path: str, body: Any = None, media_type: str | None = "application/json") -> Answer:
    """Sends one request on a connection of its own; a body that is no bytes is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
    try:
      raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
      connection.request(method, path, raw, {"Content-Type": media_type} if media_type else {})
      response = connection.getresponse()
      return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
      connection.close()

  def post(self, path: str, body: Any, media_type: str = "application/json") -> Answer:
    return self.ask("POST", path, body, media_type)


@pytest.fixture(scope="package")
def model() -> BatchedModel:
  return BatchedModel(restored(), batch_size=4, devices=jax.local_devices()[:1])


@pytest.fixture(scope="package")
def service(model) -> Service:
  return Service(model, LIMITS, version="0")


@pytest.fixture(scope="package")
def client(model, service):
  model.compile_all()
  listener = socket.create_server(("127.0.0.1", 0))
  server = uvicorn.Server(uvicorn.Config(service.application(), lifespan="off", log_level="critical"))
  thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
  thread.start()
  yield Client(listener.getsockname()[1])
  server.should_exit = True
  thread.join(60)
  assert not thread.is_alive()


@pytest.fixture(scope="package")
def checkpoint(tmp_path_factory):
  """A folder of the tiny model."""
  folder = tmp_path_factory.mktemp("served") / "model"
  exported.write(restored(), folder, "card")
  return folder
