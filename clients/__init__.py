"""Thin clients for a model server that speaks TensorFlow Serving's gRPC API.

    from clients import SentimentClient

    with SentimentClient("localhost:8500") as client:
        for result in client.classify(["A joy from start to end.", "Two lost hours."]):
            print(result.label, result.probability)

    with TranslationClient("localhost:8500") as client:
        print(client.translate_one("Where is the station?").translation)

    with DetectionClient("localhost:8500") as client:
        for found in client.detect_one("photo.jpg").detections:
            print(found.label, found.score, found.box_xyxy)

They need numpy, grpcio and protobuf, no TensorFlow. Every client has an asyncio twin, every call
a deadline, and every failure is a `protocol.errors.ServiceError`.
"""

from clients.calls import ModelMetadata, Prediction, VersionStatus
from clients.config import ClientConfig, TlsConfig
from clients.detection import (
    AsyncDetectionClient,
    Detection,
    DetectionClient,
    DetectionResult,
)
from clients.embeddings import (
    FaceEmbedding,
    Identification,
    Verification,
    compare,
)
from clients.face import AsyncFaceClient, FaceClient
from clients.gallery import Gallery
from clients.predict import AsyncPredictClient, PredictClient
from clients.retry import Backoff
from clients.segmentation import (
    AsyncSegmentationClient,
    SegmentationClient,
    SegmentationResult,
)
from clients.sentiment import AsyncSentimentClient, SentimentClient, SentimentResult
from clients.translation import (
    Alternative,
    AsyncTranslationClient,
    AttentionResult,
    TranslationClient,
    TranslationResult,
)

__all__ = [
    "Alternative",
    "AsyncDetectionClient",
    "AsyncFaceClient",
    "AsyncPredictClient",
    "AsyncSegmentationClient",
    "AsyncSentimentClient",
    "AsyncTranslationClient",
    "AttentionResult",
    "Backoff",
    "ClientConfig",
    "Detection",
    "DetectionClient",
    "DetectionResult",
    "FaceClient",
    "FaceEmbedding",
    "Gallery",
    "Identification",
    "ModelMetadata",
    "PredictClient",
    "Prediction",
    "SegmentationClient",
    "SegmentationResult",
    "SentimentClient",
    "SentimentResult",
    "TlsConfig",
    "TranslationClient",
    "TranslationResult",
    "Verification",
    "VersionStatus",
    "compare",
]
