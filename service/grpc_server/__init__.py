"""The Open Inference Protocol over gRPC: the optional extra ``grpc``, off unless a port is set."""
