# SPDX-License-Identifier: Apache-2.0
#
# What `torch-init info` tells about the build, as string macros for one source file.

function(torch_init_git_revision result)
  set(revision unknown)
  # An unpacked sdist inside another project's repository must not report that one's revision.
  if(EXISTS ${PROJECT_SOURCE_DIR}/.git)
    execute_process(
      COMMAND git describe --always --dirty --abbrev=12 --exclude=*
      WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
      OUTPUT_VARIABLE output OUTPUT_STRIP_TRAILING_WHITESPACE
      RESULT_VARIABLE status ERROR_QUIET)
    if(status EQUAL 0)
      set(revision ${output})
    endif()
  endif()
  set(${result} ${revision} PARENT_SCOPE)
endfunction()

function(torch_init_add_build_info source)
  torch_init_git_revision(revision)
  set(compiler "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
  if(TORCH_INIT_HAVE_CUDA)
    string(APPEND compiler ", nvcc ${CMAKE_CUDA_COMPILER_VERSION}")
  endif()
  # A list would be split into several definitions.
  list(JOIN TORCH_INIT_CUDA_ARCHS " " archs)
  set_property(SOURCE ${source} APPEND PROPERTY COMPILE_DEFINITIONS
    "TORCH_INIT_VERSION=\"${TORCH_INIT_VERSION}\""
    "TORCH_INIT_GIT_REVISION=\"${revision}\""
    "TORCH_INIT_CUDA_ARCHS=\"${archs}\""
    "TORCH_INIT_COMPILER=\"${compiler}\"")
endfunction()
