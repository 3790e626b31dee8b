#include "network.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <string>

#include "fault.h"
#include "half.h"

namespace stand_in {
namespace {

bool is_set(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && std::string(value) == "1";
}

// 64-byte aligned room for a tensor.
class Room {
 public:
  explicit Room(const Tensor& tensor) {
    if (posix_memalign(&data_, kAlign, (tensor.count + 16) * tensor.width) != 0) throw std::bad_alloc();
  }
  Room(Room&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;
  ~Room() { std::free(data_); }
  void* get() const { return data_; }

 private:
  void* data_ = nullptr;
};

}  // namespace

int runtime_major() {
  const char* text = std::getenv("PARITY_SIM_RUNTIME_MAJOR");
  return text != nullptr ? std::atoi(text) : 8;
}

Network::Network(std::unique_ptr<Container> container)
    : container_(std::move(container)),
      graph_(is_set("PARITY_SIM_ARITHMETIC") ? arithmetic_graph(*container_) : litert_graph(*container_)),
      in_(inputs()),
      out_(outputs()),
      rounds_(!is_set("PARITY_SIM_FP32_IO")) {}

int Network::load(const char* path, std::unique_ptr<Network>* made) {
  if (path == nullptr) return kUnexpectedNull;
  try {
    auto container = std::make_unique<Container>(path);
    if (container->major() != runtime_major()) {
      log("DLA file is V%d, mismatching runtime V%d", container->major(), runtime_major());
      return kBadData;
    }
    if (fault_at_load("bad_data")) {
      log("ERROR: Fail to rewrite DLA (simulator: fault bad_data)");
      return kBadData;
    }
    made->reset(new Network(std::move(container)));
    log("simulator: %s loaded", path);
    return kNoError;
  } catch (const std::bad_alloc&) {
    log("[apusys][error]memAlloc: Cannot allocate memory");
    return kOutOfMemory;
  } catch (const std::exception& error) {
    log("ERROR: cannot load %s: %s", path, error.what());
    return kBadData;
  }
}

size_t Network::output_size(size_t handle) const {
  const Tensor& tensor = container_->outputs()[handle];
  return (fault_at_load("wrong_shape") ? tensor.count + tensor.columns : tensor.count) * width(tensor);
}

int Network::set_input(uint64_t handle, const void* data, size_t size) {
  if (data == nullptr) return kUnexpectedNull;
  if (handle >= inputs() || size != input_size(handle)) return kBadData;
  in_[handle] = {const_cast<void*>(data), size};
  return kNoError;
}

int Network::set_output(uint64_t handle, void* data, size_t size) {
  if (data == nullptr) return kUnexpectedNull;
  if (handle >= outputs() || size != output_size(handle)) return kBadData;
  out_[handle] = {data, size};
  return kNoError;
}

int Network::run() {
  const auto unset = [](const Memory& memory) { return memory.data == nullptr; };
  if (std::any_of(in_.begin(), in_.end(), unset) || std::any_of(out_.begin(), out_.end(), unset)) return kUnexpectedNull;
  const std::string fault = fault_of_inference();
  if (fault == "inference_error") {
    log("ERROR: APUSysEngine::BuildCmd() failed");
    return kRuntimeError;
  }
  if (fault == "out_of_memory") {
    log("[apusys][error]memAlloc: Cannot allocate memory");
    return kOutOfMemory;
  }
  if (fault == "no_output" || fault == "stale_output") return kNoError;
  try {
    return compute(fault);
  } catch (const std::bad_alloc&) {
    log("[apusys][error]memAlloc: Cannot allocate memory");
    return kOutOfMemory;
  } catch (const std::exception& error) {
    log("ERROR: inference: %s", error.what());
    return kRuntimeError;
  }
}

int Network::compute(const std::string& fault) {
  std::vector<Room> rooms;
  std::vector<void*> in, out;
  for (size_t i = 0; i < inputs(); ++i) {
    rooms.emplace_back(container_->inputs()[i]);
    in.push_back(rooms.back().get());
    read(i, in[i]);
  }
  for (size_t i = 0; i < outputs(); ++i) {
    const bool aligned = reinterpret_cast<uintptr_t>(out_[i].data) % kAlign == 0;
    const bool direct = aligned && fault.empty() && !container_->suppress_io();  // into the caller's memory
    if (!direct) rooms.emplace_back(container_->outputs()[i]);
    out.push_back(direct ? out_[i].data : rooms.back().get());
  }
  const int code = graph_->run(in, out);
  for (size_t i = 0; i < outputs() && code == kNoError; ++i) write(i, out[i], fault);
  return code;
}

// The caller's values as the device sees them.
void Network::read(size_t handle, void* values) const {
  const Tensor& tensor = container_->inputs()[handle];
  const void* data = in_[handle].data;
  if (tensor.is_float32() && container_->suppress_io()) {
    halves_to_floats(static_cast<const uint16_t*>(data), static_cast<float*>(values), tensor.count);
  } else if (tensor.is_float32() && rounds_) {
    round_to_half(static_cast<const float*>(data), static_cast<float*>(values), tensor.count);
  } else {
    std::memcpy(values, data, tensor.count * tensor.width);
  }
}

// From what the graph computed to what the caller gets, as the device and its fault would have it.
void Network::write(size_t handle, void* values, const std::string& fault) const {
  const Tensor& tensor = container_->outputs()[handle];
  auto* data = out_[handle].data;
  auto* floats = static_cast<float*>(values);
  const size_t count = tensor.count, written = fault == "short_output" ? count / 2 : count;
  if (!tensor.is_float32()) {
    if (data != values) std::memcpy(data, values, written * tensor.width);
    return;
  }
  if (fault == "nan_output") std::fill(floats, floats + count, std::nanf(""));
  if (fault == "swapped_output") std::rotate(floats, floats + (count > tensor.columns ? tensor.columns : count / 2), floats + count);
  if (container_->suppress_io()) {
    floats_to_halves(floats, static_cast<uint16_t*>(data), written);
  } else if (rounds_) {
    round_to_half(floats, static_cast<float*>(data), written);
  } else if (data != values) {
    std::memcpy(data, values, written * 4);
  }
}

}  // namespace stand_in
