#!/bin/sh
# Build libapa_trt.so for CUDA 12, whose drivers are older (from r525), with clang: sh build_cuda12.sh FILE
# No package index has an nvcc 12. Where you have one, build_plugin.sh of a bundle, or CUDACXX, is simpler. Needs clang 18
# or later (Debian: apt install clang-19) and Python; headers, ptxas and TensorRT's headers are fetched and checked
# (APA_NO_FETCH=1 forbids that). Environment: CLANG (default: clang++-19), ARCHS (default: 75 80 86 89 90), PTX (90).
set -eu
out=$(realpath -m "${1:?wanted: the file to write}")
here=$(cd "$(dirname "$0")" && pwd)
clang=${CLANG:-clang++-19} python=${PYTHON:-python3} ptx=${PTX:-90}
cuda=$("$python" "$here/../fetch/cuda12.py")
headers=$("$python" "$here/../fetch/tensorrt_headers.py")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-std=c++17 -O3 -fPIC -I $here -I $here/../include -isystem $headers"
# clang 19 knows no __grid_constant__; its kernels have no local memory without it either
kernels="-x cuda --cuda-path=$cuda -Wno-unknown-cuda-version -Wno-unknown-attributes $flags"

for source in "$here"/*.cu; do
  made="$work/$(basename "$source")"
  # Not in one step: fatbinary has lost the option by which clang calls it.
  images=""
  for arch in ${ARCHS:-75 80 86 89 90}; do
    "$clang" --cuda-device-only --offload-arch="sm_$arch" $kernels "$source" -c -o "$made.$arch.cubin"
    images="$images --image3=kind=elf,sm=$arch,file=$made.$arch.cubin"
  done
  "$clang" --cuda-device-only --offload-arch="sm_$ptx" $kernels "$source" -S -o "$made.$ptx.ptx"
  # Uncompressed: drivers of CUDA 12 do not know how CUDA 13 compresses.
  "$cuda/bin/fatbinary" -64 --compress-mode=none --create="$made.fatbin" $images \
    --image3="kind=ptx,sm=$ptx,file=$made.$ptx.ptx"
  "$clang" --cuda-host-only -Xclang -fcuda-include-gpubinary -Xclang "$made.fatbin" $kernels "$source" -c -o "$made.o"
done
for source in "$here"/*.cc; do
  "$clang" $flags -isystem "$cuda/include" -c "$source" -o "$work/$(basename "$source").o"
done
"$clang" -shared "$work"/*.o -o "$out" -L "$cuda/lib64" -lcudart_static -ldl -lrt -lpthread -static-libstdc++ \
  -Wl,--version-script="$here/exports.map",--no-undefined,--gc-sections,-s
