#include "port.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "half.h"

namespace parity {
namespace {

// NaNs with payloads of our own.
constexpr uint32_t kMark32 = 0xFFA5C3E1;
constexpr uint16_t kMark16 = 0xFDA5;

// Calls `visit` with the place of each number, in our order.
template <typename Visit>
void each(const std::vector<Axis>& axes, Visit visit, size_t axis = 0, size_t offset = 0) {
  if (axis == axes.size()) return visit(offset);
  for (uint32_t i = 0; i < axes[axis].size; ++i) each(axes, visit, axis + 1, offset + size_t{i} * axes[axis].stride);
}

size_t place(const std::vector<Axis>& axes, size_t index) {
  size_t offset = 0;
  for (size_t axis = axes.size(); axis-- > 0;) {
    offset += index % axes[axis].size * axes[axis].stride;
    index /= axes[axis].size;
  }
  return offset;
}

template <typename Integer>
Integer rounded(float value, const PortForm& form) {
  double number = value;
  if (form.scale != 0) number = std::nearbyint(number / form.scale) + form.zero_point;
  if (std::isnan(number)) return 0;
  const auto low = static_cast<double>(std::numeric_limits<Integer>::min());
  const auto high = static_cast<double>(std::numeric_limits<Integer>::max());
  if (number <= low) return std::numeric_limits<Integer>::min();
  if (number >= high) return std::numeric_limits<Integer>::max();
  return static_cast<Integer>(number);
}

template <typename Integer>
float number(const uint8_t* at, const PortForm& form) {
  Integer value;
  std::memcpy(&value, at, sizeof value);
  if (form.scale == 0) return static_cast<float>(value);
  return (static_cast<float>(value) - static_cast<float>(form.zero_point)) * static_cast<float>(form.scale);
}

template <typename Integer>
void store(uint8_t* at, float value, const PortForm& form) {
  const auto integer = rounded<Integer>(value, form);
  std::memcpy(at, &integer, sizeof integer);
}

}  // namespace

size_t width(Kind kind) {
  switch (kind) {
    case Kind::kInt64: return 8;
    case Kind::kFloat32:
    case Kind::kInt32: return 4;
    case Kind::kFloat16:
    case Kind::kInt16: return 2;
    default: return 1;
  }
}

size_t PortForm::count() const {
  size_t count = 1;
  for (const Axis& axis : axes) {
    if (axis.size == 0 || count > (size_t{1} << 32) / axis.size) return 0;
    count *= axis.size;
  }
  return count;
}

bool PortForm::same_bytes(const PortForm& other) const {
  return kind == other.kind && scale == other.scale && zero_point == other.zero_point && axes == other.axes;
}

Port::Port(PortForm form, size_t bytes, const std::string& what) : form_(std::move(form)), count_(form_.count()) {
  size_t last = 0;
  for (const Axis& axis : form_.axes) last += size_t{axis.size - 1} * axis.stride;
  if (count_ == 0 || count_ * width(form_.kind) != bytes || last >= count_) {
    throw Failure(Code::kShape, what + " " + std::to_string(form_.handle) + ": expected " +
                                    std::to_string(count_ * width(form_.kind)) + " bytes, the DLA says " +
                                    std::to_string(bytes));
  }
  memory_ = Buffer(bytes);
}

void Port::clear() {
  if (form_.scale == 0 || form_.zero_point == 0) {
    std::memset(memory_.data(), 0, memory_.size());
  } else {
    fill(0);
  }
}

void Port::write(const float* values) { write_block(0, count_, values); }

void Port::read(float* values) const {
  if (form_.kind == Kind::kFloat32 && form_.axes.size() == 1 && form_.axes[0].stride == 1) {
    std::memcpy(values, memory_.data(), count_ * 4);
    return;
  }
  each(form_.axes, [&](size_t offset) { *values++ = get(offset); });
}

std::vector<float> Port::read() const {
  std::vector<float> values(count_);
  read(values.data());
  return values;
}

void Port::write_block(size_t first, size_t n, const float* values) {
  if (first == 0 && n == count_) {
    each(form_.axes, [&](size_t offset) { put(offset, *values++); });
    return;
  }
  for (size_t i = 0; i < n; ++i) put(place(form_.axes, first + i), values[i]);
}

std::vector<float> Port::read_block(size_t first, size_t n) const {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = get(place(form_.axes, first + i));
  return values;
}

void Port::fill(float value) {
  for (size_t i = 0; i < count_; ++i) put(i, value);
}

size_t Port::slot_size() const { return count_ / form_.axes[form_.slot_axis].size; }

std::vector<size_t> Port::offsets_of_slot(uint32_t slot) const {
  std::vector<Axis> rest = form_.axes;
  const Axis slots = rest[form_.slot_axis];
  rest.erase(rest.begin() + form_.slot_axis);
  std::vector<size_t> offsets;
  each(rest, [&](size_t offset) { offsets.push_back(offset + size_t{slot} * slots.stride); });
  return offsets;
}

void Port::write_slot(uint32_t slot, const float* values) {
  for (const size_t offset : offsets_of_slot(slot)) put(offset, *values++);
}

std::vector<float> Port::read_slot(uint32_t slot) const {
  std::vector<float> values;
  for (const size_t offset : offsets_of_slot(slot)) values.push_back(get(offset));
  return values;
}

void Port::fill_slots(uint32_t first, uint32_t end, float value) {
  const std::vector<float> values(slot_size(), value);
  for (uint32_t slot = first; slot < end; ++slot) write_slot(slot, values.data());
}

void Port::roll(uint32_t count) {
  const uint32_t slots = form_.axes[form_.slot_axis].size;
  std::vector<std::vector<float>> rows;
  for (uint32_t slot = 0; slot < slots; ++slot) rows.push_back(read_slot(slot));
  for (uint32_t slot = 0; slot < slots; ++slot) write_slot((slot + count) % slots, rows[slot].data());
}

void Port::mark() {
  uint8_t* last = memory_.data() + memory_.size() - width(form_.kind);
  if (form_.kind == Kind::kFloat32) std::memcpy(last, &kMark32, 4);
  if (form_.kind == Kind::kFloat16) std::memcpy(last, &kMark16, 2);
}

bool Port::is_marked() const {
  const uint8_t* last = memory_.data() + memory_.size() - width(form_.kind);
  if (form_.kind == Kind::kFloat32) return std::memcmp(last, &kMark32, 4) == 0;
  return form_.kind == Kind::kFloat16 && std::memcmp(last, &kMark16, 2) == 0;
}

void Port::put(size_t offset, float value) {
  uint8_t* at = memory_.data() + offset * width(form_.kind);
  switch (form_.kind) {
    case Kind::kFloat32: std::memcpy(at, &value, 4); return;
    case Kind::kFloat16: {
      const uint16_t half = to_half(value);
      std::memcpy(at, &half, 2);
      return;
    }
    case Kind::kInt32: return store<int32_t>(at, value, form_);
    case Kind::kInt64: return store<int64_t>(at, value, form_);
    case Kind::kInt16: return store<int16_t>(at, value, form_);
    case Kind::kInt8: return store<int8_t>(at, value, form_);
    case Kind::kUint8: return store<uint8_t>(at, value, form_);
  }
}

float Port::get(size_t offset) const {
  const uint8_t* at = memory_.data() + offset * width(form_.kind);
  switch (form_.kind) {
    case Kind::kFloat32: {
      float value;
      std::memcpy(&value, at, 4);
      return value;
    }
    case Kind::kFloat16: {
      uint16_t half;
      std::memcpy(&half, at, 2);
      return from_half(half);
    }
    case Kind::kInt32: return number<int32_t>(at, form_);
    case Kind::kInt64: return number<int64_t>(at, form_);
    case Kind::kInt16: return number<int16_t>(at, form_);
    case Kind::kInt8: return number<int8_t>(at, form_);
    case Kind::kUint8: return number<uint8_t>(at, form_);
  }
  return 0;
}

}  // namespace parity
