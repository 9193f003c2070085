"""Turns trained models into version folders and publishes them to a model repository."""

FORMATS = ("saved_model", "onnx")
