"""The embedded model server: TensorFlow Serving's API over ONNX Runtime or TensorFlow."""

import os

# Before ONNX Runtime is imported: nothing here reports to anybody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
