"""Answers requests: /embed and /impute, /health and /model. Errors are JSON with one line, {"error": "..."}.

Starlette is of an extra and so is imported inside functions; its requests, responses and applications are Any here.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from typing import Any

from aim.inference.matched_days import Layout
from aim.serve import messages
from aim.serve.batched_model import EMBED, FUNCTIONS, IMPUTE, BatchedModel
from aim.serve.messages import Message
from aim.training.checkpoint_metadata import CheckpointError
from data_pipelines.errors import UserError

RETRY_SECONDS = 1  # what a client is told that finds all places taken
# Most clients send a whole body before they read an answer, and would not see the one to a body that is too large. So a
# body of up to this many times the limit is received, and thrown away.
_DISCARDED = 4


class Refused(Exception):
  """A request that is not answered, with the status that says so; the message is one line."""

  def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
    super().__init__(message)
    self.status, self.headers = status, headers


@dataclasses.dataclass(frozen=True)
class Limits:
  """Limits on requests, so that one client cannot crowd out the others.

  Attributes:
    days: in a request.
    body_bytes: of a request, as it is sent.
    requests: that are read, waiting or computed at a time.
    silence: seconds without a byte of a body, after which the request is given up.
  """

  days: int = 256
  body_bytes: int = 64_000_000
  requests: int = 64
  silence: float = 20


class Service:
  """A model and the requests to it.

  Attributes:
    model: computes.
    limits: of requests.
    functions: that are served, of batched_model.FUNCTIONS.
    version: of this package.
  """

  def __init__(self, model: BatchedModel, limits: Limits, functions: Collection[str] = FUNCTIONS, version: str = ""):
    self.model, self.limits, self.version = model, limits, version
    self.functions = tuple(name for name in functions if name != IMPUTE or model.has_decoder)
    self.requests = 0  # in work
    # A request holds a thread while its days are computed.
    self._threads = concurrent.futures.ThreadPoolExecutor(limits.requests, "request")

  def application(self) -> Any:
    """The routes, as an ASGI application."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    routes = [Route("/health", self.health), Route("/model", self.about)]
    answers: dict[str, Callable[[Message], bytes]] = {EMBED: self.embed, IMPUTE: self.impute}
    for name in FUNCTIONS:
      answer = functools.partial(self._answer, answers[name]) if name in self.functions else self._not_served
      routes.append(Route(f"/{name}", answer, methods=["POST"]))
    # Starlette's, for other paths and methods; and whatever nobody foresaw, of which the server prints a traceback.
    handlers: dict[Any, Any] = {HTTPException: _not_found, Exception: _failure}
    return Starlette(routes=routes, exception_handlers=handlers)

  async def health(self, request: Any) -> Any:
    """Says that requests are answered, and how many wait."""
    return _json({"status": "ok", "requests": self.requests, "days_waiting": self.model.days_waiting})

  async def about(self, request: Any) -> Any:
    """Describes the model, and the days that it takes."""
    try:
      _check_no_query(request)
    except Refused as error:
      return _json({"error": str(error)}, error.status, error.headers)
    model = self.model
    return _json(
      {
        "name": model.name,
        "version": self.version,
        "trained_steps": model.trained_steps,
        "parameters": model.parameters_digest,
        "functions": list(self.functions),
        "minutes_per_step": model.schema.minutes_per_step,
        "steps": model.schema.steps,
        "channels": model.schema.to_dict()["channels"],
        "embedding_width": model.embedding_width("mean"),
        "batch_sizes": list(model.batch_sizes),
        "limits": dataclasses.asdict(self.limits),
      }
    )

  def embed(self, message: Message) -> bytes:
    """The body of the response to a request for embeddings.

    Raises:
      UserError: the days are not what the model takes.
    """
    notes = self._notes(message)
    described = message.channels, message.minutes_per_step, message.units
    return message.embeddings(self.model.embed(message.values, "mean", False, *described), notes)

  def impute(self, message: Message) -> bytes:
    """The body of the response to a request for filled days.

    Raises:
      UserError: the days are not what the model takes.
    """
    notes = self._notes(message)
    described = message.channels, message.minutes_per_step, message.units
    return message.days(self.model.impute(message.values, False, *described), notes)

  def _notes(self, message: Message) -> tuple[str, ...]:
    """Notes on the conversion of days of other channels, units or steps."""
    if not message.described:
      return ()
    model = self.model
    described = message.channels, message.minutes_per_step, message.units
    days = message.values.shape
    layout = Layout.of_days(days, model.schema, model.vocabulary, *described, "days", model.zero_is_missing)
    return () if layout.matching.is_identity else tuple(layout.matching.told())

  async def _answer(self, compute: Callable[[Message], bytes], request: Any) -> Any:
    """Reads a request, computes in a thread, and responds."""
    from starlette.requests import ClientDisconnect
    from starlette.responses import Response

    try:
      with self._place():
        _check_no_query(request)
        media_type = _media_type(request)
        work = functools.partial(self._computed, compute, await self._body(request), media_type)
        body, media_type = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        return Response(body, media_type=media_type)
    except Refused as error:
      return _json({"error": str(error)}, error.status, error.headers)
    except ClientDisconnect:
      return Response(status_code=400)  # to nobody

  @contextlib.contextmanager
  def _place(self) -> Iterator[None]:
    """One of the places of requests in work.

    Raises:
      Refused: all are taken.
    """
    if self.requests >= self.limits.requests:
      raise Refused(429, f"{self.requests} requests are in work; try again", {"Retry-After": str(RETRY_SECONDS)})
    self.requests += 1
    try:
      yield
    finally:
      self.requests -= 1

  def _computed(self, compute: Callable[[Message], bytes], body: bytes, media_type: str) -> tuple[bytes, str]:
    """The body of the response to a request that was read, and its media type.

    Raises:
      Refused: it is wrong, or has too many days.
    """
    try:
      message = messages.read(body, media_type, self.limits.days)
      return compute(message), message.media_type
    except messages.TooManyDays as error:
      raise Refused(413, str(error)) from None
    except CheckpointError as error:  # of parameters that are not finite: the days are right
      raise Refused(500, str(error)) from None
    except UserError as error:
      raise Refused(400, " ".join(str(error).split())) from None

  async def _body(self, request: Any) -> bytes:
    """The body of a request.

    Raises:
      Refused: it is too large, or its client stopped sending it.
    """
    most = self.limits.body_bytes
    too_large = Refused(413, f"the body is larger than {most:,} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > _DISCARDED * most:
      raise too_large
    parts, size = [], 0
    stream = request.stream()
    while (part := await self._next_part(stream)) is not None:
      size += len(part)
      if size > _DISCARDED * most:
        raise too_large
      if size <= most:
        parts.append(part)
      else:
        parts.clear()
    if size > most:
      raise too_large
    return b"".join(parts)

  async def _next_part(self, stream: AsyncIterator[bytes]) -> bytes | None:
    """The next part of a body; None at its end."""
    try:
      async with asyncio.timeout(self.limits.silence):
        return await anext(stream, None)
    except TimeoutError:
      raise Refused(408, f"no more of the body came for {self.limits.silence:g} s") from None

  async def _not_served(self, request: Any) -> Any:
    served = ", ".join(f"/{name}" for name in self.functions)
    return _json({"error": f"{request.url.path} is not served, expected {served}"}, 404)


def _check_no_query(request: Any) -> None:
  """Refuses what stands behind the "?" of a path, which nothing would read.

  Raises:
    Refused: there is something.
  """
  if request.url.query:
    raise Refused(400, f"query: {request.url.query[:80]!r}, expected none")


def _media_type(request: Any) -> str:
  """Media type of a request's body.

  Raises:
    Refused: neither JSON nor Arrow.
  """
  encoding = request.headers.get("content-encoding", "identity")
  if encoding != "identity":
    raise Refused(415, f"content-encoding: {encoding[:80]!r}, expected none")
  given, *parameters = request.headers.get("content-type", messages.JSON).split(";")
  given = given.strip().lower()
  if given not in (messages.JSON, messages.ARROW):
    raise Refused(415, f"content-type: {given[:80]!r}, expected {messages.JSON} or {messages.ARROW}")
  for parameter in parameters if given == messages.JSON else ():
    name, _, value = parameter.partition("=")
    charset = value.strip().strip('"').lower()
    # JSON between programs is UTF-8 (RFC 8259, section 8.1).
    if name.strip().lower() == "charset" and charset not in ("utf-8", "utf8", "us-ascii"):
      raise Refused(415, f"content-type: charset {charset[:80]!r}, expected utf-8")
  return given


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Any:
  from starlette.responses import JSONResponse

  return JSONResponse(content, status, headers)


async def _not_found(request: Any, error: Any) -> Any:
  return _json({"error": error.detail}, error.status_code, error.headers)


async def _failure(request: Any, error: Exception) -> Any:
  return _json({"error": "internal error; the service's log has it"}, 500)
