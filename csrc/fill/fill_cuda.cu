// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "fill/device_blob.h"
#include "fill/fill_cuda.h"
#include "fill/fill_kernel.h"
#include "portable/cuda_launch.h"
#include "portable/thread_block.h"

namespace torch_init {
namespace {

constexpr const char* kTooMany = "more than 2^31 tiles of 4096 elements in one launch";

// Kernel arguments may take 32,764 bytes since CUDA 12.1 (driver 530).

// Resident blocks that ptxas must allow for. For more, it would spill between tiles.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 900
constexpr int kLeastBlocksOfOne = 0;  // ptxas finds four
constexpr int kLeastBlocksOfMany = 3;
#else
constexpr int kLeastBlocksOfOne = 2;
constexpr int kLeastBlocksOfMany = 2;
#endif

// A task that brings its table along.
struct OneTask {
  FillTask task;
  int64_t first_tile[2];
  float rows[StagedTable::kRows * Segmentation<float>::kCoefficients];
};

__global__ void __launch_bounds__(kFillThreads, kLeastBlocksOfOne)
    fill_one_kernel(const __grid_constant__ OneTask argument) {
  __shared__ StagedTable staged;
  fill_block(DeviceBlock{}, FillList{&argument.task, argument.first_tile, 1}, argument.rows,
             &staged);
}

__global__ void __launch_bounds__(kFillThreads, kLeastBlocksOfMany)
    fill_many_kernel(FillList list) {
  __shared__ StagedTable staged;
  fill_block(DeviceBlock{}, list, nullptr, &staged);
}

// A piece of host memory on its way to the device.
struct Piece {
  int64_t count;
  uint64_t word[2000];
};

__global__ void __launch_bounds__(kFillThreads)
    upload_kernel(const __grid_constant__ Piece piece, uint64_t* out) {
  for (int64_t i = threadIdx.x; i < piece.count; i += blockDim.x) out[i] = piece.word[i];
}

}  // namespace

const char* cuda_fill_one(const FillTask& task, int device, void* stream) {
  const int64_t tiles = tile_count(task);
  if (tiles == 0) return nullptr;
  if (tiles > kMaxTiles) return kTooMany;
  unsigned blocks = 0;
  const cudaError_t status = grid_size(device, tiles, &blocks);
  if (status != cudaSuccess) return error_text(status);

  OneTask argument;
  argument.task = task;
  argument.first_tile[0] = 0;
  argument.first_tile[1] = tiles;
  const QuantileRows<float>& table = task.distribution.table_f32;
  if (table.rows != nullptr) std::copy_n(table.rows, table_size(table), argument.rows);
  fill_one_kernel<<<blocks, kFillThreads, 0, static_cast<cudaStream_t>(stream)>>>(argument);
  return error_text(cudaGetLastError());
}

const char* cuda_fill_many(const void* blob, size_t count, int64_t tiles, int device,
                           void* stream) {
  if (tiles == 0) return nullptr;
  if (tiles > kMaxTiles) return kTooMany;
  unsigned blocks = 0;
  const cudaError_t status = grid_size(device, tiles, &blocks);
  if (status != cudaSuccess) return error_text(status);
  fill_many_kernel<<<blocks, kFillThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      list_in_blob(blob, count));
  return error_text(cudaGetLastError());
}

const char* cuda_upload(const void* host, size_t size, void* out, int device, void* stream) {
  const char* bytes = static_cast<const char*>(host);
  cudaError_t status = cudaSetDevice(device);
  for (size_t done = 0; done < size && status == cudaSuccess;) {
    Piece piece;
    const size_t now = std::min(size - done, sizeof piece.word);
    piece.count = static_cast<int64_t>(now / sizeof(uint64_t));
    std::memcpy(piece.word, bytes + done, now);
    upload_kernel<<<1, kFillThreads, 0, static_cast<cudaStream_t>(stream)>>>(
        piece, reinterpret_cast<uint64_t*>(static_cast<char*>(out) + done));
    status = cudaGetLastError();
    done += now;
  }
  return error_text(status);
}

int cuda_device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

}  // namespace torch_init
