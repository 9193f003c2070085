"""Thin clients for a model server that speaks TensorFlow Serving's gRPC API.

    from clients import SentimentClient

    with SentimentClient("localhost:8500") as client:
        for result in client.classify(["A joy from start to end.", "Two lost hours."]):
            print(result.label, result.probability)

They need numpy, grpcio and protobuf, no TensorFlow. Every client has an asyncio twin, every call
a deadline, and every failure is a `protocol.errors.ServiceError`.
"""

from clients.calls import ModelMetadata, Prediction, VersionStatus
from clients.config import ClientConfig, TlsConfig
from clients.predict import AsyncPredictClient, PredictClient
from clients.retry import Backoff
from clients.sentiment import AsyncSentimentClient, SentimentClient, SentimentResult

__all__ = [
    "AsyncPredictClient",
    "AsyncSentimentClient",
    "Backoff",
    "ClientConfig",
    "ModelMetadata",
    "PredictClient",
    "Prediction",
    "SentimentClient",
    "SentimentResult",
    "TlsConfig",
    "VersionStatus",
]
