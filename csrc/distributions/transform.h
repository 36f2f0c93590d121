// SPDX-License-Identifier: Apache-2.0
//
// From words to values, one element at a time: the definition that every tier must agree with.
// The CUDA kernels run these very functions; the vector tiers restate them in wider registers.
#pragma once

#include <stddef.h>

#include "distributions/distribution.h"
#include "portable/portable.h"

namespace torch_init {

// Octave segmentation (Cheung, Lee, Luk & Villasenor, IEEE TVLSI 15(8), 2007): the exponent and
// the two leading mantissa bits of x pick a segment, the remaining mantissa bits are the
// position in it. Segments shrink towards 0, which is where a quantile function is steep.
template <typename Real>
struct Segmentation;

template <>
struct Segmentation<float> {
  static constexpr int kCoefficients = 4;  // cubic in t, t in [1, 1.25)
  static constexpr int kSegments = 129;    // x = 0.5 ... 2^31
  static constexpr int kMagnitudeBits = 31;
  static constexpr int kPositionBits = 21;
  static constexpr uint32_t kFirstSegment = 126u << 2;
};

template <>
struct Segmentation<double> {
  static constexpr int kCoefficients = 9;  // degree 8 in t - 1.125
  static constexpr int kSegments = 257;    // x = 0.5 ... 2^63
  static constexpr int kMagnitudeBits = 63;
  static constexpr int kPositionBits = 50;
  static constexpr uint32_t kFirstSegment = 1022u << 2;
};

template <typename Real>
TI_HOST_DEVICE size_t table_size(const QuantileRows<Real>& table) {
  const int halves = table.symmetric ? 1 : 2;
  return static_cast<size_t>(halves * Segmentation<Real>::kSegments *
                             Segmentation<Real>::kCoefficients);
}

// Where a float table's rows lie; a GPU keeps them elsewhere than a host does.
struct RowsInMemory {
  const float* rows;

  TI_HOST_DEVICE_MEMBER void operator()(uint32_t row, float c[4]) const {
    for (int k = 0; k < 4; ++k) c[k] = rows[row * 4 + static_cast<uint32_t>(k)];
  }
};

// Where a word's u lies within its half.
struct SegmentPosition {
  uint32_t segment;
  float t;
};

// `one` is the bits of 1.
TI_HOST_DEVICE SegmentPosition segment_position(uint32_t word, uint32_t one = 0x3f800000u) {
  using S = Segmentation<float>;
  const float x = static_cast<float>(static_cast<int32_t>(word & 0x7fffffffu)) + 0.5f;
  const uint32_t bits = float_bits(x);
  return {(bits >> S::kPositionBits) - S::kFirstSegment, bits_float((bits & 0x001fffffu) | one)};
}

TI_HOST_DEVICE float cubic(const float c[4], float t) {
  return fma_rn(fma_rn(fma_rn(c[3], t, c[2]), t, c[1]), t, c[0]);
}

// Q(u) for the word's u = (magnitude + 1/2) / 2^32, counted from the end of the distribution
// that the word's top bit names (0: upper).
template <typename FetchRow>
TI_HOST_DEVICE float table_quantile(uint32_t word, bool symmetric, const FetchRow& fetch_row) {
  using S = Segmentation<float>;
  const SegmentPosition at = segment_position(word);
  // Without branches, as CUDA kernels call this.
  const uint32_t rows_above = symmetric ? 0u : static_cast<uint32_t>(S::kSegments);
  float c[S::kCoefficients];
  fetch_row(at.segment + (word >> 31) * rows_above, c);
  const uint32_t sign = symmetric ? 0x80000000u : 0u;
  return bits_float(float_bits(cubic(c, at.t)) ^ (word & sign));
}

// The same from 64 bits, u = (magnitude + 1/2) / 2^64. Multiplications and additions are rounded
// separately: a double fma is not cheap everywhere.
TI_HOST_DEVICE double table_quantile(uint64_t word, const QuantileRows<double>& table) {
  using S = Segmentation<double>;
  const double x = static_cast<double>(static_cast<int64_t>(word & 0x7fffffffffffffffu)) + 0.5;
  const uint64_t bits = double_bits(x);
  uint32_t row = static_cast<uint32_t>(bits >> S::kPositionBits) - S::kFirstSegment;
  if (!table.symmetric && (word >> 63) != 0) row += S::kSegments;
  const double t = bits_double((bits & 0x0003ffffffffffffu) | 0x3ff0000000000000u) - 1.125;
  const double* c = table.rows + row * S::kCoefficients;
  double q = c[S::kCoefficients - 1];
  for (int power = S::kCoefficients - 2; power >= 0; --power) q = q * t + c[power];
  return table.symmetric ? bits_double(double_bits(q) ^ (word & 0x8000000000000000u)) : q;
}

TI_HOST_DEVICE float clamp_value(float value, const ValueMap<float>& map) {
  value = value < map.low ? map.low : value;
  return value > map.high ? map.high : value;
}

TI_HOST_DEVICE double clamp_value(double value, const ValueMap<double>& map) {
  value = value < map.low ? map.low : value;
  return value > map.high ? map.high : value;
}

template <typename FetchRow>
TI_HOST_DEVICE float value_from_word(uint32_t word, const Distribution& d,
                                     const FetchRow& fetch_row) {
  switch (d.kind) {
    case DistributionKind::kBits:
      return bits_float(word);
    case DistributionKind::kUniform: {
      const float u = static_cast<float>(static_cast<int32_t>(word & 0x00ffffffu));
      return clamp_value(fma_rn(u, d.f32.scale, d.f32.location), d.f32);
    }
    case DistributionKind::kQuantile: {
      const float q = table_quantile(word, d.table_f32.symmetric, fetch_row);
      const float v = fma_rn(q, d.f32.scale, d.f32.location);
      return d.bounded ? clamp_value(v, d.f32) : v;
    }
    case DistributionKind::kTwoPoint:
      return word < d.threshold ? d.f32.high : d.f32.low;
    default:
      return d.f32.location;
  }
}

TI_HOST_DEVICE float value_from_word(uint32_t word, const Distribution& d) {
  return value_from_word(word, d, RowsInMemory{d.table_f32.rows});
}

// A float64 element uses two words, the first being the more significant.
TI_HOST_DEVICE double value_from_words(uint32_t high, uint32_t low, const Distribution& d) {
  const uint64_t word = (static_cast<uint64_t>(high) << 32) | low;
  switch (d.kind) {
    case DistributionKind::kUniform: {
      const double u = static_cast<double>(static_cast<int64_t>(word & 0x001fffffffffffffu));
      return clamp_value(u * d.f64.scale + d.f64.location, d.f64);
    }
    case DistributionKind::kQuantile: {
      const double v = table_quantile(word, d.table_f64) * d.f64.scale + d.f64.location;
      return d.bounded ? clamp_value(v, d.f64) : v;
    }
    case DistributionKind::kTwoPoint:
      return high < d.threshold ? d.f64.high : d.f64.low;
    default:
      return d.f64.location;
  }
}

}  // namespace torch_init
