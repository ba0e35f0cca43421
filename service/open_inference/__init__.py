"""The Open Inference Protocol v2, apart from how it is carried: REST and gRPC share all of it.

Facts of the protocol are those of its public specification (kserve/open-inference-protocol) and of
Triton's published extensions: binary tensor data and the model repository.
"""
