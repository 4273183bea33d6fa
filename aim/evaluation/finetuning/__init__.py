"""The encoder trained on labels, beside the same network and a ResNet from scratch.

`run` is --mode=finetune.
"""
