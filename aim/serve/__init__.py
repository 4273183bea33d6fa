"""A trained model as an HTTP service: `python -m aim.serve --checkpoint=...`.

`batched_model` computes the days of many requests together, `messages` reads and writes JSON and Arrow, `application`
answers requests.
"""
