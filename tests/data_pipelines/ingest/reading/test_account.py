"""The account: counts, merging, and the way through JSON."""

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
