# SPDX-License-Identifier: Apache-2.0
#
# CUDA kernels are compiled wherever nvcc is found, GPU or not.
#
# TORCH_INIT_CUDA_ARCHS is a list of compute capabilities: "90" compiles machine code for sm_90,
# "90+PTX" adds PTX, which newer GPUs compile for themselves when the module is loaded.

# Runs on everything from Ampere (2020) on, and is native to Hopper, whose PTX gives newer GPUs what
# Ampere has not: clusters and conversions to float8.
set(default_archs 80+PTX 90+PTX)

# TORCH_INIT_CUDA_ARCHS -> CMake's notation: "80;120+PTX" -> "80-real;120"
function(torch_init_cuda_architectures archs result)
  set(architectures)
  foreach(arch IN LISTS archs)
    if(arch MATCHES "^([0-9]+[af]?)\\+PTX$")
      list(APPEND architectures ${CMAKE_MATCH_1})
    elseif(arch MATCHES "^[0-9]+[af]?$")
      list(APPEND architectures ${arch}-real)
    else()
      message(FATAL_ERROR
        "TORCH_INIT_CUDA_ARCHS: got '${archs}', expected a list such as '80;90;120+PTX'")
    endif()
  endforeach()
  set(${result} ${architectures} PARENT_SCOPE)
endfunction()

if(NOT TORCH_INIT_CUDA MATCHES "^(auto|on|off)$")
  message(FATAL_ERROR "TORCH_INIT_CUDA: got '${TORCH_INIT_CUDA}', expected auto, on or off")
endif()

set(TORCH_INIT_HAVE_CUDA OFF)
if(NOT TORCH_INIT_CUDA STREQUAL "off")
  find_program(nvcc NAMES $ENV{CUDACXX} nvcc NO_CACHE
    HINTS ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin
    PATHS /usr/local/cuda/bin)
  if(nvcc)
    set(TORCH_INIT_HAVE_CUDA ON)
  elseif(TORCH_INIT_CUDA STREQUAL "on")
    message(FATAL_ERROR
      "TORCH_INIT_CUDA=on, but nvcc was not found. Put it on PATH or set CUDA_HOME to the "
      "toolkit's directory, or use TORCH_INIT_CUDA=off to build without CUDA kernels.")
  endif()
endif()

if(TORCH_INIT_HAVE_CUDA)
  if(NOT TORCH_INIT_CUDA_ARCHS)
    set(TORCH_INIT_CUDA_ARCHS ${default_archs})
  endif()
  # Before enable_language and before any target exists: both read it.
  torch_init_cuda_architectures("${TORCH_INIT_CUDA_ARCHS}" CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_COMPILER ${nvcc})
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.1)
    message(FATAL_ERROR
      "nvcc ${CMAKE_CUDA_COMPILER_VERSION}: the CUDA kernels need 12.1 or newer, which allows more "
      "than 4 KB of kernel arguments. TORCH_INIT_CUDA=off builds without them.")
  endif()
  message(STATUS "CUDA kernels: ${CMAKE_CUDA_COMPILER}, ${TORCH_INIT_CUDA_ARCHS}")
else()
  set(TORCH_INIT_CUDA_ARCHS none)
  message(STATUS "CUDA kernels: none")
endif()

# Adds .cu files to a target, if CUDA is compiled at all.
function(torch_init_add_cuda_sources target)
  if(NOT TORCH_INIT_HAVE_CUDA)
    return()
  endif()
  target_sources(${target} PRIVATE ${ARGN})
  target_compile_definitions(${target} PUBLIC TORCH_INIT_HAVE_CUDA)
  # nvcc's own host code is not pedantic.
  set(host_flags -ffp-contract=off ${torch_init_warnings})
  list(REMOVE_ITEM host_flags -Wpedantic)
  list(TRANSFORM host_flags PREPEND -Xcompiler=)
  set(flags -fmad=false -Xptxas=-v ${host_flags})
  if(TORCH_INIT_WERROR)
    list(APPEND flags -Werror=all-warnings)
  endif()
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${flags}>")
  # Keeps what ptxas says about registers and spills beside each object, for check_ptxas.py.
  set_target_properties(${target} PROPERTIES
    CUDA_COMPILER_LAUNCHER "${Python_EXECUTABLE};${PROJECT_SOURCE_DIR}/tools/log_ptxas.py")
endfunction()
