#!/bin/sh
# Build libapa_trt.so from src/ for this machine: sh build_plugin.sh FILE, then python3 build.py --plugin FILE
# Environment: NVCC (default: nvcc), TENSORRT_INCLUDE (the folder of NvInferRuntime.h, 10.7 or later),
# ARCH (default: native, this machine's GPU; else e.g. sm_89).
set -eu
out=$(realpath -m "${1:?wanted: the file to write}")
cd "$(dirname "$0")/src"
exec "${NVCC:-nvcc}" -std=c++17 -O3 -arch="${ARCH:-native}" -Xcompiler -fPIC -shared -cudart static \
  -I tensorrt -I include -isystem "${TENSORRT_INCLUDE:-/usr/include/$(uname -m)-linux-gnu}" \
  tensorrt/kernels.cu tensorrt/*.cc -o "$out" -Xlinker --version-script=tensorrt/exports.map
