"""gRPC on libnghttp2: the same services as on grpcio, at a fraction of its processor time."""
