"""The embedded model server: TensorFlow Serving's API over ONNX Runtime or TensorFlow."""

import os

# ONNX Runtime's official builds send usage data to their maker unless this is set before import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
