// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gibbs/float_units.h"
#include "gibbs/limbs.h"

namespace torch_init {

// How chains run on a GPU. All ways return the same bits.
enum class GibbsPath : int32_t {
  kFastest = 0,
  kTiles = 1,    // a launch for each half-step, of layers and batches of any size
  kSplit = 2,    // the same with more and smaller parts; grey levels take tiles
  kCluster = 3,  // one launch, where the weights fit into a cluster of thread blocks
};

// Writes a side's limbs, which the kernels' bodies need on the host, too.
void make_limbs_on_host(const LimbTask& task);

// Bytes of working memory, aligned to 16 bytes, that cuda_gibbs needs.
int64_t gibbs_workspace_size(const GibbsTask& task);

// Runs the task on the given device, which it leaves current, and stream. Everything lies in device
// memory but the threshold's table. Never synchronises, and may be captured into a graph. Returns
// null, or a static string that says what CUDA objected to.
const char* cuda_gibbs(const GibbsTask& task, void* workspace, GibbsPath path, int device,
                       void* stream);

// The same by the kernels' bodies run by the host, in host memory, `blocks` blocks packing states
// and sharing tiles; or in clusters of 2^size_bits blocks that take 8, 16 or 32 chains each.
void gibbs_half_steps_on_host(const GibbsTask& task, bool split, int blocks);
void gibbs_clusters_on_host(const GibbsTask& task, int size_bits, int chains);

// Units with floating-point fields, in one launch; the table's rows lie on the host.
const char* cuda_sample_float(const FloatTask& task, int device, void* stream);
void sample_float_body_on_host(const FloatTask& task, int blocks);

}  // namespace torch_init
