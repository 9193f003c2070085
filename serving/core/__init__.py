"""The heart of the server, free of gRPC and HTTP: versions come, run batches, and go."""
