// Streams and graphs of the CUDA runtime on the CPU: work runs at once, or is kept while its stream records.
#include <chrono>
#include <cstring>

#include "cuda_cpu.h"
#include "cuda_cpu_runtime.h"

using Work = std::vector<std::function<void()>>;
struct CUstream_st {
  bool recording = false;
  Work work;
};
struct CUevent_st {
  std::chrono::steady_clock::time_point at;
};
struct CUgraph_st {
  Work work;
};
struct CUgraphExec_st {
  Work work;
};

namespace {

Work* graph_of(cudaStream_t stream) { return stream && stream->recording ? &stream->work : nullptr; }

cudaError_t run_or_keep(cudaStream_t stream, std::function<void()> work) {
  if (Work* graph = graph_of(stream)) {
    graph->push_back(std::move(work));
  } else {
    cuda_cpu::finish();
    work();
  }
  return cudaSuccess;
}

const bool kHooked = (cuda_cpu::captures_elsewhere = false, cuda_cpu::graph_of = graph_of);

}  // namespace

extern "C" {

cudaError_t cudaMemset(void* target, int byte, size_t bytes) {
  cuda_cpu::finish();
  std::memset(target, byte, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* target, int byte, size_t bytes, cudaStream_t stream) {
  return run_or_keep(stream, [=] { std::memset(target, byte, bytes); });
}
cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return run_or_keep(stream, [=] { std::memcpy(target, source, bytes); });
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  *free_bytes = *total = size_t{1} << 30;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return cuda_cpu::finish(), cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  *stream = new CUstream_st;
  return flags == cudaStreamNonBlocking ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->recording) return cudaErrorStreamCaptureUnsupported;
  return cuda_cpu::finish(), cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (!stream || mode != cudaStreamCaptureModeThreadLocal) return cudaErrorStreamCaptureUnsupported;
  *stream = {true, {}};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = new CUgraph_st{stream->work};
  *stream = {};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
  *ready = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t) {
  for (const auto& work : ready->work) work();
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready) {
  delete ready;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  cuda_cpu::finish();
  event->at = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t stop) {
  *milliseconds = std::chrono::duration<float, std::milli>(stop->at - start->at).count();
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

}  // extern "C"
