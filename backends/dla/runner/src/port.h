// An input or output of a step: where its memory is, and how our numbers lie in it. All of it is told by LAYOUT.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "memory.h"

namespace parity {

enum class Kind : uint32_t { kFloat32 = 0, kFloat16 = 1, kInt32 = 2, kInt64 = 3, kInt16 = 4, kInt8 = 5, kUint8 = 6 };
constexpr uint32_t kKinds = 7;

enum class Role : uint32_t {
  kToken = 0,
  kEncoderOutput = 1,
  kPosition = 2,
  kSlot = 3,
  kMask = 4,
  kPastKeys = 5,
  kPastValues = 6,
  kCrossKeys = 7,
  kCrossValues = 8,
  kCross = 9,
  kLogits = 10,
  kNewKeys = 11,
  kNewValues = 12,
  kKeys = 13,
  kValues = 14,
  kFeatures = 15,
};
constexpr uint32_t kRoles = 16;
constexpr uint32_t kNone = 0xFFFFFFFF;

// One axis in our order: layers, slots or positions, heads, state.
struct Axis {
  uint32_t size = 0, stride = 0;
  bool operator==(const Axis& other) const { return size == other.size && stride == other.stride; }
};

// What LAYOUT says of a tensor.
struct PortForm {
  uint32_t handle = 0;
  Role role = Role::kToken;
  uint32_t layer = kNone;  // kNone: all of them
  Kind kind = Kind::kFloat32;
  double scale = 0;  // of integers that stand for numbers; 0 for all others
  int32_t zero_point = 0;
  std::vector<Axis> axes;
  uint32_t slot_axis = kNone;

  size_t count() const;
  // Whether the same numbers are the same bytes.
  bool same_bytes(const PortForm& other) const;
};

size_t width(Kind kind);

class Port {
 public:
  // Throws Failure kShape when `bytes`, what the runtime says, is another size, or an axis leads out of it.
  Port(PortForm form, size_t bytes, const std::string& what);

  const PortForm& form() const { return form_; }
  size_t count() const { return count_; }
  Buffer& memory() { return memory_; }
  const Buffer& memory() const { return memory_; }

  // What stands for 0, everywhere.
  void clear();
  // All numbers in our order.
  void write(const float* values);
  void write(const std::vector<float>& values) { write(values.data()); }
  void read(float* values) const;
  std::vector<float> read() const;
  // `n` numbers from `first` on, in our order.
  void write_block(size_t first, size_t n, const float* values);
  std::vector<float> read_block(size_t first, size_t n) const;
  void fill(float value);
  // Numbers of one slot, in our order.
  size_t slot_size() const;
  void write_slot(uint32_t slot, const float* values);
  std::vector<float> read_slot(uint32_t slot) const;
  void fill_slots(uint32_t first, uint32_t end, float value);
  // What is in slot i goes to slot i + count; what falls out comes in again at the start.
  void roll(uint32_t count);

  // A NaN that no computation gives in place of the last number, and whether it is still there.
  void mark();
  bool is_marked() const;

 private:
  void put(size_t offset, float value);
  float get(size_t offset) const;
  std::vector<size_t> offsets_of_slot(uint32_t slot) const;

  PortForm form_;
  size_t count_ = 0;
  Buffer memory_;
};

}  // namespace parity
