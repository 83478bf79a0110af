"""Fuzzing: any octets parse or raise a documented error, the same under every split.

`targets` judges one input; `__main__` makes inputs, with atheris where it is installed.
"""
