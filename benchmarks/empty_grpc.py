"""A server of the protocol that computes nothing, the most that grpc.aio can do. serving.py starts it: ADDRESS."""

from __future__ import annotations

import asyncio
import sys

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as services


class Empty(services.GRPCInferenceServiceServicer):
    async def ModelMetadata(self, request, context):  # noqa: N802
        tensor = pb.ModelMetadataResponse.TensorMetadata(name="x", datatype="FP32", shape=[-1, 4])
        return pb.ModelMetadataResponse(name=request.name, versions=["1"], inputs=[tensor])

    async def ModelInfer(self, request, context):  # noqa: N802
        reply = pb.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
        reply.outputs.add(name="y", datatype="FP32", shape=[1, 4])
        reply.raw_output_contents.append(bytes(16))
        return reply


async def main(address: str) -> None:
    server = grpc.aio.server()
    services.add_GRPCInferenceServiceServicer_to_server(Empty(), server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
