"""One view a task: what its models are asked with, and how their answers are shown."""

from collections.abc import Mapping
from types import MappingProxyType

from clients.web.form import View
from clients.web.views import detection, face, segmentation, sentiment, translation

VIEWS: Mapping[str, View] = MappingProxyType(
    {
        "face": face.VIEW,
        "detection": detection.VIEW,
        "segmentation": segmentation.VIEW,
        "translation": translation.VIEW,
        "sentiment": sentiment.VIEW,
    }
)

__all__ = ["VIEWS"]
