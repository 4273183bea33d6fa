"""Trained models to read, wherever they are: workdirs, checkpoints, exported folders, a hub, and shipped weights.

`source.read` takes the path of any of them; `exported` writes and reads folders of safetensors and JSON, and `hub`
fetches them.
"""
