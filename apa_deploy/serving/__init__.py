"""The embedded inference server: Open Inference Protocol v2 over HTTP and gRPC.

options -> layout (names, versions) -> model (integrity, session, warm-up) -> registry -> service -> http, grpc
"""
