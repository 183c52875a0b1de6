# nvcc for the libraries that run on a GPU, and what they share: the kernels, compiled once for all of them.
# Where nvcc cannot be had or fails on this machine, APA_NVCC is "" and the install goes on without them.
#
# nvcc compiles and links everything itself: only it knows where its own headers and libraries are.
apa_fetch(nvcc.py APA_NVCC)
if(NOT APA_NVCC)
  return()
endif()

set(APA_CUDA_ARCHITECTURES 75 80 86 89 90 100 120 CACHE STRING "Compute capabilities to compile for")
set(APA_CUDA_PTX 90 CACHE STRING "Compute capability of the PTX, for GPUs newer than those")

# What this nvcc knows of them: CUDA 12 before 12.8 has no 100 and 120.
execute_process(COMMAND "${APA_NVCC}" --list-gpu-arch OUTPUT_VARIABLE APA_KNOWN ERROR_QUIET)
set(APA_GENCODE "")
foreach(arch IN LISTS APA_CUDA_ARCHITECTURES)
  if(APA_KNOWN MATCHES "compute_${arch}\n")
    list(APPEND APA_GENCODE -gencode "arch=compute_${arch},code=sm_${arch}")
  else()
    message(STATUS "GPU libraries: this nvcc cannot compile for sm_${arch}")
  endif()
endforeach()
list(APPEND APA_GENCODE -gencode "arch=compute_${APA_CUDA_PTX},code=compute_${APA_CUDA_PTX}")

set(APA_NVCC_COMMAND "${APA_NVCC}" -ccbin "${CMAKE_CXX_COMPILER}" -std=c++17 -O3 --threads 2
  -Xcompiler -fPIC,-Wall,-Wextra)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Unique symbols would keep a library in memory after its host has let it go.
  list(APPEND APA_NVCC_COMMAND -Xcompiler -fno-gnu-unique)
endif()

# An nvcc that does not go with this compiler must not end the install.
file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/probe.cu"
  "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n#include <tuple>\n__global__ void probe(__half* x) { *x = __float2half_rn(1.f); }\n")
execute_process(
  COMMAND ${APA_NVCC_COMMAND} ${APA_GENCODE} -c probe.cu -o probe.o
  WORKING_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}"
  RESULT_VARIABLE APA_PROBE ERROR_VARIABLE APA_PROBE_SAID OUTPUT_VARIABLE APA_PROBE_SAID)
if(NOT APA_PROBE EQUAL 0)
  message(WARNING "${APA_NVCC} does not work with ${CMAKE_CXX_COMPILER}:\n${APA_PROBE_SAID}")
  set(APA_NVCC "")
  return()
endif()

# Compiles `ARGN` in `folder` into objects/<name>/, with these flags; sets `result` to the objects.
function(apa_nvcc_objects result name folder flags)
  set(objects "")
  file(GLOB headers CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/plugins/include/apa/*.h"
    "${PROJECT_SOURCE_DIR}/plugins/tensorrt/*.h" "${PROJECT_SOURCE_DIR}/plugins/tensorrt/kernels/*.cuh"
    "${PROJECT_SOURCE_DIR}/plugins/onnxruntime/*.h" "${folder}/*.h")
  file(MAKE_DIRECTORY "${PROJECT_BINARY_DIR}/objects/${name}")
  foreach(source IN LISTS ARGN)
    get_filename_component(file "${source}" NAME)
    set(object "${PROJECT_BINARY_DIR}/objects/${name}/${file}.o")
    add_custom_command(OUTPUT "${object}"
      COMMAND ${APA_NVCC_COMMAND} ${APA_GENCODE} ${flags} -c "${folder}/${source}" -o "${object}"
      DEPENDS "${folder}/${source}" ${headers} COMMENT "nvcc ${source}" VERBATIM)
    list(APPEND objects "${object}")
  endforeach()
  set(${result} ${objects} PARENT_SCOPE)
endfunction()

# Links `ARGN` into the library `file`, which exports what `exports` names, as the target `name`.
function(apa_nvcc_library name file exports)
  if(APA_LIBRARY_FOLDER)
    set(library "${APA_LIBRARY_FOLDER}/${file}")
    file(MAKE_DIRECTORY "${APA_LIBRARY_FOLDER}")
  else()
    set(library "${CMAKE_CURRENT_BINARY_DIR}/${file}")
    install(PROGRAMS "${library}" DESTINATION apa_deploy/lib)
  endif()
  add_custom_command(OUTPUT "${library}"
    COMMAND "${APA_NVCC}" -ccbin "${CMAKE_CXX_COMPILER}" -shared -cudart static ${ARGN} -o "${library}"
      -Xcompiler -static-libstdc++
      -Xlinker "--version-script=${exports},--no-undefined,--gc-sections,-s"
    DEPENDS ${ARGN} "${exports}" apa_cuda_shared COMMENT "nvcc ${file}" VERBATIM)
  add_custom_target(${name} ALL DEPENDS "${library}")
  add_dependencies(${name} apa_cuda_shared)
endfunction()

set(APA_CUDA_INCLUDES -I "${PROJECT_SOURCE_DIR}/plugins/tensorrt" -I "${APA_INCLUDE_FOLDER}")
apa_nvcc_objects(APA_CUDA_OBJECTS shared "${PROJECT_SOURCE_DIR}/plugins/tensorrt" "${APA_CUDA_INCLUDES}"
  kernels.cu activation.cc device_memory.cc layout.cc)
add_custom_target(apa_cuda_shared DEPENDS ${APA_CUDA_OBJECTS})
