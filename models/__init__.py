"""Training code of the five models: one package a model, shared mechanism in ``models.common``."""

import os

# ONNX Runtime's official builds send usage data to their maker unless this is set before import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
