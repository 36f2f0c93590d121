// SPDX-License-Identifier: Apache-2.0
//
// Statistics of an activation or a gradient, added to a row of running totals.
#pragma once

#include "moments/kernels.h"
#include "portable/dtype.h"
#include "region/region.h"

namespace torch_init {

// A matrix whose columns are features: a tensor's last dimension, the others being rows.
struct FeatureView {
  double* totals;  // [3, columns]: positive elements, sum, sum of squares; null if not wanted
  int64_t columns;
  int64_t column_stride;
  Region rows;            // in row-major order
  Region rows_in_memory;  // the same in an order that suits memory
};

struct FlowTask {
  const void* data;
  DType dtype;
  Region elements;  // in an order that suits memory
  FeatureView features;
  Limits limits;
  double* row;  // flow_row.h has its columns
  bool histogram;
  int64_t order;
  const float* scale;   // one number that x must still be divided by; null for 1
  const uint8_t* gate;  // null, or where 0 says that there is nothing to do
};

// Fills in what depends on the tensor's dtype and layout, given features.totals and the bounds of
// saturation. Returns false if more than kMaxDims dimensions remain.
bool set_layout(int ndim, const int64_t* size, const int64_t* stride, double low, double high,
                FlowTask* task);

void host_accumulate(const FlowTask& task, const MomentsKernels& kernels, int max_threads);

}  // namespace torch_init
