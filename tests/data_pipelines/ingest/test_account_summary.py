"""The account of an import is printed in a few lines and stored as a table that adds up."""

from data_pipelines.ingest import account_summary
from data_pipelines.ingest.reading.account import Account
from data_pipelines.text_files import unprintable


def made(people):
  account = Account()
  for p in range(people):
    account.add(f"p{p}", 100)
    account.drop(f"p{p}", "bad", p, f"{p}.csv row 2")
  return account


def test_few_people_are_shown_one_by_one():
  assert account_summary.summary_lines(made(2)) == [
    "account of 2 people: 200 rows read, 199 kept, 1 dropped (0.5 %)",
    "             1  bad (first: 1.csv row 2)",
    "  p0: 100 rows read, 100 kept, 0 dropped (0 %)",
    "  p1: 100 rows read, 99 kept, 1 dropped (1 %)",
  ]


def test_of_many_people_the_worst_are_shown():
  lines = account_summary.summary_lines(made(30))
  assert lines[2] == "  the 5 of 30 people who lost the largest share (account.csv lists everybody):"
  assert [line.split(":")[0].strip() for line in lines[3:]] == ["p29", "p28", "p27", "p26", "p25"]


def test_the_csv_adds_up():
  assert account_summary.to_csv(made(2)).splitlines() == [
    "participant,rows,outcome,first",
    "p0,100,read,",
    "p0,100,kept,",
    "p1,100,read,",
    "p1,99,kept,",
    "p1,1,bad,1.csv row 2",
  ]


def test_people_and_locations_are_renamed():
  renamed = account_summary.rename_people(made(2), str.upper, lambda where: where[-5:])
  assert renamed.read == {"P0": 100, "P1": 100}
  assert renamed.dropped == {("P1", "bad"): 1}
  assert renamed.example == {("P1", "bad"): "row 2"}


def test_record_types_are_the_most_frequent_few_and_the_number_of_the_others():
  account = made(1)
  for n in range(1, 31):
    account.pass_over("p0", f"type {n}", n)
  *_, line = account_summary.summary_lines(account)
  assert line.startswith("record types not read: type 30 30, type 29 29, ")
  assert line.endswith(", type 11 11 and 10 kinds more, in account.csv")
  assert "p0,1,not read: records of type type 1," in account_summary.to_csv(account)


def test_what_comes_from_files_stays_in_its_line(tmp_path):
  account = Account()
  account.add("kim\x1b[2J", 1)
  account.pass_over("kim\x1b[2J", "a\nb\ud800" + 1000 * "c")
  account.drop("kim\x1b[2J", "bad", 1, "evil\u202e\r.csv row 2")
  account.leave_file("x\n", "of no kind", "x\n")
  lines = account_summary.summary_lines(account)
  assert not [line for line in lines if unprintable(line)]
  assert lines[-1] == "record types not read: a\\nb\\ud800" + 76 * "c" + "... 1"
  text = account_summary.to_csv(account)
  text.encode()
  assert len(text.splitlines()) == 6 and "evil\\u202e\\r.csv row 2" in text
