"""Models of a hub: revisions, the cache, and every way in which a hub can fail, against a server on this machine."""

import sys

import pytest

constants = pytest.importorskip("huggingface_hub.constants", reason="the hub extra is not installed")

from aim.training.checkpoint_metadata import CheckpointError  # noqa: E402
from aim.training.trained import hub, source  # noqa: E402
from benchmarks import damage  # noqa: E402
from tests import tiny  # noqa: E402
from tests.hub import served  # noqa: E402
from tests.training.trained.test_exported import restored  # noqa: E402

NAME = "lab/watch"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  from aim.inference.pretrained import Pretrained

  target = tmp_path_factory.mktemp("published") / "model"
  Pretrained(restored()).save(target)
  (target / "notes.txt").write_text("not of the export, so it is not fetched")
  return target


@pytest.fixture
def server(tmp_path, monkeypatch):
  """A hub, and an empty cache."""
  with served() as running:
    monkeypatch.setenv("HF_ENDPOINT", running.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "SECONDS", 2.0)
    yield running


def test_the_newest_and_pinned_revisions(server, folder, capsys):
  first = server.publish(NAME, folder, "main", "v1")
  card = folder / "README.md"
  text = card.read_text()
  card.write_text("# Second\n")
  second = server.publish(NAME, folder, "main")
  card.write_text(text)
  assert first != second
  assert source.read(f"hf://{NAME}").step == 6
  commits = {revision: hub.fetched(f"hf://{NAME}{revision}").name for revision in ("", "@main", "@v1", f"@{first}")}
  assert commits == {"": second, "@main": second, "@v1": first, f"@{first}": first}
  assert not [path for path in server.requests if "notes.txt" in path]
  assert not (hub.fetched(f"hf://{NAME}") / "notes.txt").exists()
  assert capsys.readouterr().out == ""


def test_a_pinned_commit_in_the_cache_needs_no_request(server, folder):
  commit = server.publish(NAME, folder)
  hub.fetched(f"hf://{NAME}@{commit}")
  server.requests.clear()
  assert hub.fetched(f"hf://{NAME}@{commit}").name == commit
  assert server.requests == []


@pytest.mark.parametrize("fault", ["answers 503", "is offline", "refuses"])
def test_the_cache_without_a_hub(server, folder, fault, capsys, monkeypatch):
  commit = server.publish(NAME, folder, "main", "v1")
  hub.fetched(f"hf://{NAME}@v1")
  if fault == "answers 503":
    server.broken = True
  elif fault == "is offline":
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  else:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
  capsys.readouterr()
  assert source.read(f"hf://{NAME}@v1").step == 6
  (line,) = capsys.readouterr().out.splitlines()
  assert line.startswith(f"hf://{NAME}@v1: cannot be fetched from the hub: ")
  assert line.endswith(f"; commit {commit} from the cache is used")
  message = f"^hf://{NAME}: cannot be fetched from the hub: .*; and there is no whole copy of it in the cache$"
  with pytest.raises(CheckpointError, match=message):
    source.read(f"hf://{NAME}")


def test_what_the_hub_does_not_have(server, folder):
  server.publish(NAME, folder)
  with pytest.raises(CheckpointError, match=r"^hf://lab/none: the hub has no such model, or it is private"):
    source.read("hf://lab/none")
  for revision in ("v9", "0" * 40):
    with pytest.raises(CheckpointError, match=f"^hf://{NAME}@{revision}: the hub has no revision '{revision}' of this"):
      source.read(f"hf://{NAME}@{revision}")


@pytest.mark.parametrize(
  "address", ["hf://", "hf://watch", "hf://lab/watch/extra", "hf://lab/watch@", "hf://lab/watch@a b"]
)
def test_malformed_addresses(address):
  with pytest.raises(CheckpointError, match=f"^{address}: expected hf://owner/name or hf://owner/name@revision"):
    source.read(address)


@pytest.mark.slow
def test_a_process_of_its_own(server, folder, tmp_path):
  """The library reads its settings when it is imported, as in any user's process."""
  server.publish(NAME, folder, "v1")
  days = tiny.write_npz(tmp_path / "days.npz")
  output = tmp_path / "embeddings.npz"
  command = "--mode=embed", f"--checkpoint=hf://{NAME}@v1", f"--data={days}", f"--output={output}"
  variables = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
  for offline in ("0", "1"):
    ended = tiny.wait(tiny.start(*command, variables=variables | {"HF_HUB_OFFLINE": offline}))
    assert ended.code == 0, ended.err
    assert ("from the cache is used" in ended.out) == (offline == "1")
  ended = tiny.wait(tiny.start(*command, variables={"HF_HOME": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "1"}))
  assert ended.code == 2
  last = ended.err.splitlines()[-1]
  assert last.startswith(f"error: hf://{NAME}@v1: cannot be fetched from the hub: ") and "in the cache" in last


def test_a_model_of_another_kind(server, tmp_path):
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "pytorch_model.bin").write_bytes(b"0")
  server.publish(NAME, tmp_path / "other")
  with pytest.raises(CheckpointError, match=f"^hf://{NAME}: holds no exported model"):
    source.read(f"hf://{NAME}")


def test_damage_on_the_hub(server, folder, tmp_path):
  import shutil

  damaged = shutil.copytree(folder, tmp_path / "damaged")
  damage.flip_bit(damaged / "statistics.json", 40, 0)
  server.publish(NAME, damaged)
  with pytest.raises(CheckpointError, match=rf"^hf://{NAME}: statistics\.json is damaged: "):
    source.read(f"hf://{NAME}")


def test_without_the_package(monkeypatch):
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)
  with pytest.raises(
    CheckpointError, match=r"^hf://lab/watch: needs .*; install it with: pip install 'lsm2-aim\[hub\]'$"
  ):
    source.read("hf://lab/watch")
