// SPDX-License-Identifier: Apache-2.0
#include "fill/device_blob.h"

#include <cstring>
#include <map>

namespace torch_init {
namespace {

constexpr size_t kAlignment = 16;

size_t aligned(size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

size_t head_size(size_t count) {
  return aligned(count * sizeof(FillTask) + (count + 1) * sizeof(int64_t));
}

// Gives each distinct table a place after the head.
class TablePlaces {
 public:
  explicit TablePlaces(size_t head) : end_(head) {}

  template <typename Real>
  size_t place(const QuantileRows<Real>& table) {
    const auto [found, added] = places_.emplace(table.rows, end_);
    if (added) end_ += aligned(table_size(table) * sizeof(Real));
    return found->second;
  }

  size_t end() const { return end_; }

 private:
  size_t end_;
  std::map<const void*, size_t> places_;
};

template <typename Real>
void move_table(QuantileRows<Real>* table, TablePlaces* places, uint64_t device_address,
                char* out) {
  if (table->rows == nullptr) return;
  const size_t place = places->place(*table);
  std::memcpy(out + place, table->rows, table_size(*table) * sizeof(Real));
  table->rows = reinterpret_cast<const Real*>(device_address + place);
}

}  // namespace

size_t device_blob_size(const FillTask* tasks, size_t count) {
  TablePlaces places(head_size(count));
  for (size_t i = 0; i < count; ++i) {
    const Distribution& d = tasks[i].distribution;
    if (d.table_f32.rows != nullptr) places.place(d.table_f32);
    if (d.table_f64.rows != nullptr) places.place(d.table_f64);
  }
  return places.end();
}

void write_device_blob(const FillTask* tasks, size_t count, uint64_t device_address, void* out) {
  char* bytes = static_cast<char*>(out);
  TablePlaces places(head_size(count));
  int64_t first_tile = 0;
  for (size_t i = 0; i < count; ++i) {
    FillTask task = tasks[i];
    move_table(&task.distribution.table_f32, &places, device_address, bytes);
    move_table(&task.distribution.table_f64, &places, device_address, bytes);
    std::memcpy(bytes + i * sizeof(FillTask), &task, sizeof task);
    std::memcpy(bytes + count * sizeof(FillTask) + i * sizeof first_tile, &first_tile,
                sizeof first_tile);
    first_tile += tile_count(tasks[i]);
  }
  std::memcpy(bytes + count * sizeof(FillTask) + count * sizeof first_tile, &first_tile,
              sizeof first_tile);
}

int64_t total_tiles(const FillTask* tasks, size_t count) {
  int64_t tiles = 0;
  for (size_t i = 0; i < count; ++i) tiles += tile_count(tasks[i]);
  return tiles;
}

}  // namespace torch_init
