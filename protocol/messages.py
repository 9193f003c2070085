"""Message classes of everything we speak, without TensorFlow and beside it.

The descriptors live in a pool of their own, so that TensorFlow and the official
`tensorflow-serving-api` can be imported into the same process, before or after.
"""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DESCRIPTORS = Path(__file__).parent / "descriptors.binpb"


def _load_pool() -> descriptor_pool.DescriptorPool:
    """Builds the private pool from the compiled descriptors (imports come first in the file)."""
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _load_pool()


def message_class(full_name: str) -> Any:
    """Looks up a message class.

    Args:
        full_name: package and name, such as `tensorflow.serving.PredictRequest`.

    Raises:
        KeyError: no such message.
    """
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(full_name))


def _serving(name: str) -> Any:
    return message_class(f"tensorflow.serving.{name}")


def _tensorflow(name: str) -> Any:
    return message_class(f"tensorflow.{name}")


# Well-known types.
AnyMessage = message_class("google.protobuf.Any")
Int64Value = message_class("google.protobuf.Int64Value")

# Tensors and signatures.
TensorProto = _tensorflow("TensorProto")
TensorShapeProto = _tensorflow("TensorShapeProto")
NamedTensorProto = _tensorflow("NamedTensorProto")
TensorInfo = _tensorflow("TensorInfo")
SignatureDef = _tensorflow("SignatureDef")
SignatureDefMap = _serving("SignatureDefMap")

# Examples.
Example = _tensorflow("Example")
Features = _tensorflow("Features")
Feature = _tensorflow("Feature")
BytesList = _tensorflow("BytesList")
FloatList = _tensorflow("FloatList")
Int64List = _tensorflow("Int64List")
SequenceExample = _tensorflow("SequenceExample")
Input = _serving("Input")
ExampleList = _serving("ExampleList")
ExampleListWithContext = _serving("ExampleListWithContext")

# PredictionService.
ModelSpec = _serving("ModelSpec")
PredictRequest = _serving("PredictRequest")
PredictResponse = _serving("PredictResponse")
Class = _serving("Class")
Classifications = _serving("Classifications")
ClassificationResult = _serving("ClassificationResult")
ClassificationRequest = _serving("ClassificationRequest")
ClassificationResponse = _serving("ClassificationResponse")
Regression = _serving("Regression")
RegressionResult = _serving("RegressionResult")
RegressionRequest = _serving("RegressionRequest")
RegressionResponse = _serving("RegressionResponse")
InferenceTask = _serving("InferenceTask")
InferenceResult = _serving("InferenceResult")
MultiInferenceRequest = _serving("MultiInferenceRequest")
MultiInferenceResponse = _serving("MultiInferenceResponse")
GetModelMetadataRequest = _serving("GetModelMetadataRequest")
GetModelMetadataResponse = _serving("GetModelMetadataResponse")

# ModelService.
GetModelStatusRequest = _serving("GetModelStatusRequest")
GetModelStatusResponse = _serving("GetModelStatusResponse")
ModelVersionStatus = _serving("ModelVersionStatus")
StatusProto = _serving("StatusProto")
ReloadConfigRequest = _serving("ReloadConfigRequest")
ReloadConfigResponse = _serving("ReloadConfigResponse")
Metric = _serving("Metric")

# SessionService: messages only, no server registers it.
SessionRunRequest = _serving("SessionRunRequest")
SessionRunResponse = _serving("SessionRunResponse")

# Configuration files.
ModelServerConfig = _serving("ModelServerConfig")
ModelConfigList = _serving("ModelConfigList")
ModelConfig = _serving("ModelConfig")
FileSystemStoragePathSourceConfig = _serving("FileSystemStoragePathSourceConfig")
ServableVersionPolicy = _serving("FileSystemStoragePathSourceConfig.ServableVersionPolicy")
LoggingConfig = _serving("LoggingConfig")
LogCollectorConfig = _serving("LogCollectorConfig")
SamplingConfig = _serving("SamplingConfig")
BatchingParameters = _serving("BatchingParameters")
MonitoringConfig = _serving("MonitoringConfig")
PrometheusConfig = _serving("PrometheusConfig")
SSLConfig = _serving("SSLConfig")
PlatformConfigMap = _serving("PlatformConfigMap")
PlatformConfig = _serving("PlatformConfig")
SavedModelBundleSourceAdapterConfig = _serving("SavedModelBundleSourceAdapterConfig")
SessionBundleConfig = _serving("SessionBundleConfig")
SessionConfig = _serving("SessionConfig")

# Logs and warm-up records.
PredictionLog = _serving("PredictionLog")
LogMetadata = _serving("LogMetadata")
PredictLog = _serving("PredictLog")
ClassifyLog = _serving("ClassifyLog")
RegressLog = _serving("RegressLog")
MultiInferenceLog = _serving("MultiInferenceLog")
SessionRunLog = _serving("SessionRunLog")
PredictStreamedLog = _serving("PredictStreamedLog")

# Health and reflection.
HealthCheckRequest = message_class("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = message_class("grpc.health.v1.HealthCheckResponse")
HealthListRequest = message_class("grpc.health.v1.HealthListRequest")
HealthListResponse = message_class("grpc.health.v1.HealthListResponse")
ReflectionRequest = message_class("grpc.reflection.v1.ServerReflectionRequest")
ReflectionResponse = message_class("grpc.reflection.v1.ServerReflectionResponse")
ReflectionRequestV1Alpha = message_class("grpc.reflection.v1alpha.ServerReflectionRequest")
ReflectionResponseV1Alpha = message_class("grpc.reflection.v1alpha.ServerReflectionResponse")
