// SPDX-License-Identifier: Apache-2.0
//
// What the host code of our launchers calls, in place of CUDA's runtime: kernels are those that a
// test has loaded, and a mistake of a kernel is the error that its launch returns.
#include <algorithm>
#include <map>
#include <regex>
#include <sstream>
#include <stdexcept>

#include "cuda_runtime_api.h"
#include "machine.h"

namespace {

struct Machine {
  std::map<std::string, ptx::Kernel> kernels;  // by name
  std::map<const void*, std::string> names;    // by the host's function
  ptx::GlobalMemory memory;
  std::string error;
  int multiprocessors = 1;
  uint64_t seed = 0;
  // The only clusters that fit, of this size and by the kernel with this in its name; 0: all do.
  unsigned cluster_size = 0;
  std::string cluster_kernel;
  // Launched early, whatever its launcher says, the kernel with this in its name; empty: none.
  std::string early_kernel;
};

Machine& machine() {
  static Machine only;
  return only;
}

// nvcc puts a hash of the file and its options into the names of what is local to it.
std::string plain_name(const std::string& name) {
  static const std::regex local(
      "[0-9]+_GLOBAL__N__[0-9a-f]+_[0-9]+_([A-Za-z0-9_]+)_cu_[0-9a-f]{8}");
  return std::regex_replace(name, local, "$1_");
}

cudaError_t remember(const std::string& error) {
  machine().error = error;
  return cudaErrorLaunchFailure;
}

cudaError_t run(ptx::Kernel& kernel, const ptx::Launch& how) {
  try {
    ptx::run(kernel, machine().memory, how, machine().seed);
    return cudaSuccess;
  } catch (const std::exception& error) {
    return remember(error.what());
  }
}

cudaError_t launch(const void* function, const ptx::Launch& how) {
  const auto name = machine().names.find(function);
  if (name == machine().names.end()) return remember("PTX: an unknown function is launched");
  const auto kernel = machine().kernels.find(name->second);
  if (kernel == machine().kernels.end()) return remember("PTX: not loaded: " + name->second);
  const std::string& early = machine().early_kernel;
  ptx::Launch changed = how;
  changed.early |= !early.empty() && name->second.find(early) != std::string::npos;
  return run(kernel->second, changed);
}

std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream in(line);
  for (std::string field; std::getline(in, field, '\t');) fields.push_back(field);
  return fields;
}

ptx::Instruction instruction_of(const std::vector<std::string>& fields) {
  ptx::Instruction instruction;
  instruction.name = fields.at(1);
  instruction.guard = std::stoi(fields.at(2));
  instruction.guard_negated = fields.at(3) == "1";
  instruction.target = std::stoi(fields.at(4));
  instruction.source = fields.at(5);
  instruction.text = fields.at(6);
  for (size_t i = 7; i < fields.size(); ++i) instruction.operands.push_back(std::stoi(fields[i]));
  ptx::decode(&instruction);
  return instruction;
}

// One line an item, fields between tabs: see program.py.
ptx::Kernel kernel_of(const std::string& description) {
  ptx::Kernel kernel;
  std::istringstream in(description);
  for (std::string line; std::getline(in, line);) {
    const std::vector<std::string> fields = fields_of(line);
    const auto number = [&](size_t i) { return std::stoull(fields.at(i)); };
    if (fields.at(0) == "kernel") {
      kernel.name = plain_name(fields.at(1));
      kernel.shared_size = number(2);
      kernel.local_size = number(3);
      kernel.rows = static_cast<int>(number(4));
    } else if (fields[0] == "parameter") {
      kernel.parameter_offsets.push_back(number(1));
      kernel.parameter_sizes.push_back(number(2));
    } else if (fields[0] == "constant") {
      kernel.constants.push_back({static_cast<int>(number(1)), number(2)});
    } else {
      kernel.code.push_back(instruction_of(fields));
    }
  }
  return kernel;
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

// For Python. All return null, or what is wrong.
EXPORTED const char* ptx_load(const char* description) {
  try {
    ptx::Kernel kernel = kernel_of(description);
    machine().kernels[kernel.name] = std::move(kernel);
    return nullptr;
  } catch (const std::exception& error) {
    machine().error = error.what();
    return machine().error.c_str();
  }
}
EXPORTED void ptx_add_memory(uint64_t address, uint64_t size, int defined) {
  machine().memory.add(address, size, defined != 0);
}
EXPORTED void ptx_forget_memory() { machine().memory.clear(); }
EXPORTED void ptx_configure(int multiprocessors, uint64_t seed) {
  machine().multiprocessors = multiprocessors;
  machine().seed = seed;
  machine().early_kernel.clear();
}
EXPORTED void ptx_launch_early(const char* kernel) { machine().early_kernel = kernel; }
EXPORTED void ptx_only_clusters(unsigned size, const char* kernel) {
  machine().cluster_size = size;
  machine().cluster_kernel = kernel;
}
// Launches a kernel that no host code knows.
EXPORTED const char* ptx_run(const char* name, uint64_t blocks, uint64_t threads, int early,
                             void** arguments) {
  const auto kernel = machine().kernels.find(name);
  if (kernel == machine().kernels.end()) return "PTX: not loaded";
  const cudaError_t error = run(kernel->second, {blocks, threads, 1, 0, early != 0, arguments});
  return error == cudaSuccess ? nullptr : machine().error.c_str();
}
// A line for each instruction that no test has executed: kernel, source, text; then one for each
// kernel: name, instructions executed, all.
EXPORTED const char* ptx_coverage() {
  static std::string lines;
  lines.clear();
  for (const auto& [name, kernel] : machine().kernels) {
    size_t executed = 0;
    for (const ptx::Instruction& i : kernel.code) {
      executed += i.executed ? 1 : 0;
      if (!i.executed) lines += name + '\t' + i.source + '\t' + i.text + '\n';
    }
    lines +=
        name + '\t' + std::to_string(executed) + '\t' + std::to_string(kernel.code.size()) + '\n';
  }
  return lines.c_str();
}

// What nvcc's host code calls.
namespace {
struct Configuration {
  dim3 grid, block;
  size_t shared;
};
thread_local Configuration configuration;
thread_local cudaError_t last_error = cudaSuccess;

const cudaLaunchAttributeValue* attribute_of(const cudaLaunchConfig_t& config,
                                             cudaLaunchAttributeID id) {
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    if (config.attrs[i].id == id) return &config.attrs[i].val;
  }
  return nullptr;
}

unsigned cluster_size_of(const cudaLaunchConfig_t& config) {
  const auto* value = attribute_of(config, cudaLaunchAttributeClusterDimension);
  return value == nullptr ? 1 : value->clusterDim.x;
}

cudaError_t returned(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}
}  // namespace

extern "C" {
void** __cudaRegisterFatBinary(void*) { return nullptr; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, uint3*,
                            uint3*, dim3*, dim3*, int*) {
  machine().names[function] = plain_name(name);
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void*) {
  configuration = {grid, block, shared};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void*) {
  *grid = configuration.grid;
  *block = configuration.block;
  *shared = configuration.shared;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                             size_t shared, cudaStream_t) {
  return returned(launch(function, {grid.x, block.x, 1, shared, false, arguments}));
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               size_t shared, cudaStream_t stream) {
  return cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                void** arguments) {
  const auto* early = attribute_of(*config, cudaLaunchAttributeProgrammaticStreamSerialization);
  const bool is_early = early != nullptr && early->programmaticStreamSerializationAllowed != 0;
  return returned(launch(function, {config->gridDim.x, config->blockDim.x, cluster_size_of(*config),
                                    config->dynamicSmemBytes, is_early, arguments}));
}
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
const char* cudaGetErrorString(cudaError_t) { return machine().error.c_str(); }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = machine().multiprocessors;
      return cudaSuccess;
    case cudaDevAttrClusterLaunch:
      *value = 1;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      // Clusters that a test asks for fit.
      *value = machine().cluster_size == 0 ? 227 * 1024 : 8 << 20;
      return cudaSuccess;
    default:
      return remember("PTX: an attribute of the device that is not known");
  }
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->ptxVersion = 90;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) {
  *blocks = 2;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int,
                                                                   size_t, unsigned) {
  *blocks = 2;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* function,
                                           const cudaLaunchConfig_t* config) {
  const bool is_wanted =
      cluster_size_of(*config) == machine().cluster_size &&
      machine().names[function].find(machine().cluster_kernel) != std::string::npos;
  *clusters = machine().cluster_size == 0 || is_wanted ? 1 << 20 : 0;
  return cudaSuccess;
}
}
