"""Commands run once, and one whose fingerprint is wrong or unknown is not taken for finished."""

import json
import pathlib

import pytest
from tqdm import tqdm

from aim.evaluation import scored_model
from aim.studies import fingerprints, job_runner
from aim.studies.job_runner import CellError, Command, StudyModel
from experiments import default

BAR = tqdm(disable=True)


def append(path, fingerprint="0"):
  """A command that adds a line to a file."""
  return Command(("-c", f"open({str(path)!r}, 'a').write('ran\\n')"), fingerprint)


def test_a_finished_command_is_skipped(tmp_path):
  for _ in range(2):
    job_runner.run_command(append(tmp_path / "out"), tmp_path / "cell", BAR)
  assert (tmp_path / "out").read_text() == "ran\n"
  job_runner.run_command(append(tmp_path / "out", "1"), tmp_path / "cell", BAR)
  assert (tmp_path / "out").read_text() == "ran\nran\n", "the same text with another fingerprint is another command"
  finished = job_runner.finished_commands(tmp_path / "cell")
  assert list(finished) == ["0", "1"] and finished["0"].text.startswith("python -c ")


def test_records_of_earlier_versions_are_read_but_finish_nothing(tmp_path):
  command = append(tmp_path / "out")
  (tmp_path / "commands.json").write_text(json.dumps({command.text: 12.5}))
  assert job_runner.finished_commands(tmp_path)[command.text].seconds == 12.5
  job_runner.run_command(command, tmp_path, BAR)
  assert (tmp_path / "out").read_text() == "ran\n"


def test_a_command_during_which_the_code_was_edited_is_not_finished(tmp_path, monkeypatch):
  versions = iter(("before", "after"))
  monkeypatch.setattr(fingerprints, "code", lambda: next(versions))
  with pytest.raises(CellError, match="the code was edited while it ran; repeat the command of the study"):
    job_runner.run_command(append(tmp_path / "out"), tmp_path, BAR)
  assert job_runner.finished_commands(tmp_path) == {}


def test_results_that_another_value_overwrote_are_computed_again(tmp_path):
  write = lambda text: f"import pathlib; (pathlib.Path({str(tmp_path)!r}) / 'result').write_text({text!r})"
  command = lambda text, mode="export": Command(("-c", write(text), f"--mode={mode}"), text)
  other = command("trained", "pretrain")
  for each in (other, command("a"), command("b"), command("a"), other):
    job_runner.run_command(each, tmp_path, BAR)
  assert (tmp_path / "result").read_text() == "a"
  assert list(job_runner.finished_commands(tmp_path)) == ["trained", "a"]


@pytest.mark.parametrize(
  ("printed", "told"),
  [
    ("print('error: a'); print('error: b'); print('\\rstep 3 of a command that was left behind', end='')", "error: b"),
    ("print('killed')", "killed"),
    ("pass", r"\$ python -c .*"),
  ],
)
def test_a_failed_command_is_quoted_with_its_error(tmp_path, printed, told):
  (tmp_path / "log.txt").write_text("$ python\nerror: of an earlier command\n")
  command = Command(("-c", f"import sys; {printed}; sys.exit(2)"), "0")
  with pytest.raises(CellError, match=rf"exit 2: {told} \(.*log\.txt\)$"):
    job_runner.run_command(command, tmp_path, BAR)


def test_a_command_whose_results_were_changed_or_lost_runs_again(tmp_path, capsys):
  write = f"import pathlib; (pathlib.Path({str(tmp_path)!r}) / 'heldout.json').write_text('1')"
  command = Command(("-c", write, "--mode=heldout"), "0")
  ran = lambda: pathlib.Path(tmp_path / "log.txt").read_text().count("$ python")
  model = scored_model.ScoredModel("LSM-2", 4, "f" * 32)

  def run():
    job_runner.run_command(command, tmp_path, BAR)
    scored_model.record(tmp_path, "heldout", model)  # as the mode does
    return ran()

  assert [run(), run()] == [1, 1]
  (tmp_path / "heldout.json").write_text("2")
  assert run() == 2 and f"{tmp_path / 'heldout.json'}: is not as --mode=heldout wrote it" in capsys.readouterr().out
  (tmp_path / "heldout.json").unlink()
  assert [run(), run()] == [3, 3] and (tmp_path / "heldout.json").read_text() == "1"
  (tmp_path / "scored" / "heldout.json").unlink()
  assert [run(), run()] == [4, 4]
  (tmp_path / "scored" / "heldout.json").write_text("{")
  assert [run(), run()] == [5, 5] and "not JSON" in capsys.readouterr().out


def test_an_entry_names_an_experiment_and_its_overrides():
  model = StudyModel.parse("lsm1_xs --config.name='LSM-1 small' --config.seed=4", ("--config.seed=3",))
  assert (model.config_name, model.name, model.method) == ("lsm1_xs", "LSM-1 small", "mae")
  assert model.resolved.seed == 4, "an entry's own override wins"
  with pytest.raises(job_runner.ConfigError, match=r"--config\.sed: no such config key"):
    StudyModel.parse("lsm1_xs --config.sed=4")


def test_the_simulated_cohort_is_built_where_no_data_is_named(tmp_path):
  config = default.get_config()
  config.data.dir = str(tmp_path)
  (dataset,) = job_runner.datasets(config, "scaling")
  assert dataset.name == "simulated_200x5_seed0" and dataset.build is not None
  config.data.seed = 1
  (other,) = job_runner.datasets(config, "scaling")
  assert other.identity != dataset.identity
