"""The account: counts, merging, and the way through JSON."""

from data_pipelines.ingest.reading import account as account_module
from data_pipelines.ingest.reading.account import Account


def made():
  account = Account()
  account.add("anna", 10)
  account.add("bob")
  account.drop("anna", "bad", 2, "x.csv row 3")
  account.drop("anna", "bad", 1, "x.csv row 9")
  account.drop("bob", "none", 0, "x.csv row 5")
  return account


def test_counts_and_the_first_example():
  account = made()
  assert account.read == {"anna": 10, "bob": 1}
  assert account.dropped == {("anna", "bad"): 3}
  assert account.example == {("anna", "bad"): "x.csv row 3"}


def test_json_and_merging():
  account = Account.from_json(made().to_json())
  assert (account.read, account.dropped, account.example) == (made().read, made().dropped, made().example)
  account.merge(made())
  assert account.read == {"anna": 20, "bob": 2}
  assert account.dropped == {("anna", "bad"): 6}
  assert account.example == {("anna", "bad"): "x.csv row 3"}


def test_types_that_are_not_read_are_counted_apart_and_not_without_end(monkeypatch):
  monkeypatch.setattr(account_module, "MOST_TYPES", 3)
  account = Account()
  for n in range(5):
    account.pass_over("anna", f"type {n}", n + 1)
  account.pass_over("anna", "type 0", 10)
  expected = {("anna", "type 0"): 11, ("anna", "type 1"): 2, ("anna", "type 2"): 3, ("anna", "others"): 9}
  assert account.passed_over == Account.from_json(account.to_json()).passed_over == expected
  assert not account.read and not account.dropped
