# SPDX-License-Identifier: Apache-2.0
#
# Flags of our own C++ code, and the instruction-set tiers. Bits come first: nothing here may
# let the compiler contract, reorder or approximate floating-point arithmetic.

add_library(torch_init_flags INTERFACE)
# The host compiler reads CUDA kernel bodies too, and does not know their `#pragma unroll`.
set(torch_init_warnings -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wno-unknown-pragmas)
if(TORCH_INIT_WERROR)
  list(APPEND torch_init_warnings -Werror)
endif()
target_compile_options(torch_init_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off;${torch_init_warnings}>")
if(TORCH_INIT_SANITIZE)
  set(sanitize -fsanitize=${TORCH_INIT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  # The instrumented vector code takes minutes to optimise.
  target_compile_options(torch_init_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${sanitize};-O1;-g>")
  target_link_options(torch_init_flags INTERFACE ${sanitize})
endif()

# Files compiled for instructions that the rest must not assume, on the architecture that has
# them. The definitions say which tiers exist; csrc/cpu/dispatch.cpp asks the CPU which may run.
function(torch_init_add_x86_tiers target)
  cmake_parse_arguments(PARSE_ARGV 1 sources "" "" "AVX2;AVX512")
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    return()
  endif()
  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512 ${avx2} -mavx512f -mavx512vl -mavx512bw -mavx512dq)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Its own AVX-512 headers trip these warnings (GCC bug 105593).
    list(APPEND avx512 -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()
  set_source_files_properties(${sources_AVX2} PROPERTIES COMPILE_OPTIONS "${avx2}")
  set_source_files_properties(${sources_AVX512} PROPERTIES COMPILE_OPTIONS "${avx512}")
  target_sources(${target} PRIVATE ${sources_AVX2} ${sources_AVX512})
  target_compile_definitions(${target} PUBLIC TORCH_INIT_HAVE_AVX2 TORCH_INIT_HAVE_AVX512)
endfunction()
