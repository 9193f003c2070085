import pytest


@pytest.fixture(params=["grpcio", "nghttp2"])
def grpc_face(request) -> str:
    return request.param
