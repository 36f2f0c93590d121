// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "portable/portable.h"

namespace torch_init {

enum class DType : int32_t {
  kFloat32 = 0,
  kFloat64 = 1,
  kBFloat16 = 2,
  kFloat16 = 3,
  kFloat8E4M3FN = 4,
  kFloat8E5M2 = 5,
  kUInt32 = 6,  // the words themselves
};
constexpr int kDTypeCount = 7;

TI_HOST_DEVICE constexpr int64_t element_size(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 8;
    case DType::kFloat32:
    case DType::kUInt32:
      return 4;
    case DType::kBFloat16:
    case DType::kFloat16:
      return 2;
    default:
      return 1;
  }
}

}  // namespace torch_init
