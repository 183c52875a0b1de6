#!/bin/sh
# Build libapa_trt.so from src/ for this machine: sh build_plugin.sh FILE, then python3 build.py --plugin FILE
# Environment: NVCC (default: nvcc), ARCH (default: native, this machine's GPU; else e.g. sm_89), TENSORRT_ROOT (an
# unpacked TensorRT, 10.7 or later; else the system's headers, else the pinned ones, which are fetched with pip and
# checked: TensorRT's Python package has none. APA_NO_FETCH=1 forbids that).
set -eu
out=$(realpath -m "${1:?wanted: the file to write}")
cd "$(dirname "$0")/src"
headers=$("${PYTHON:-python3}" fetch/tensorrt_headers.py)
exec "${NVCC:-nvcc}" -std=c++17 -O3 -arch="${ARCH:-native}" -Xcompiler -fPIC -shared -cudart static \
  -I tensorrt -I include -isystem "$headers" \
  tensorrt/*.cu tensorrt/*.cc -o "$out" -Xlinker --version-script=tensorrt/exports.map
