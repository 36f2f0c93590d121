// SPDX-License-Identifier: Apache-2.0
//
// For .cu files only.
#pragma once

#include "gibbs/cluster_kernel.h"
#include "portable/cuda_launch.h"

namespace torch_init {

// The clusters that a task runs in.
struct Clusters {
  ClusterTask task;
  int chains;  // of a cluster; 0: the device cannot hold the layer or all the chains at once
};

// Finds the least clusters that hold the layer. Makes the device current.
cudaError_t find_clusters(const GibbsTask& task, int device, Clusters* found);

cudaError_t run_clusters(const Clusters& clusters, void* stream);

}  // namespace torch_init
