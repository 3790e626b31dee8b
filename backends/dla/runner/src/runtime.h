// The Neuron runtime of the device, found by dlopen, and networks loaded by it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bytes.h"

namespace parity {

enum class Api { kAuto, kV1, kV2 };

// A DLA file loaded by the runtime. Buffers are the caller's, and must live as long as they are bound.
class Network {
 public:
  virtual ~Network() = default;
  // Sizes in bytes, in handle order.
  const std::vector<size_t>& input_sizes() const { return input_sizes_; }
  const std::vector<size_t>& output_sizes() const { return output_sizes_; }
  // Throw Failure with what the runtime returned.
  virtual void bind_input(size_t handle, void* data) = 0;
  virtual void bind_output(size_t handle, void* data) = 0;
  virtual void run() = 0;

 protected:
  std::vector<size_t> input_sizes_, output_sizes_;
};

class Runtime {
 public:
  // Take the first of `libraries` that the linker accepts; the documented search order when there is none.
  // Throws Failure kLibrary.
  Runtime(const std::vector<std::string>& libraries, Api api);

  // Throws Failure kLoad or kOutOfMemory.
  std::unique_ptr<Network> load(const std::string& path) const;

  // 1 or 2.
  uint16_t api() const { return api_; }
  const std::string& library() const { return library_; }
  // "8.2.16"; empty when the runtime does not tell.
  const std::string& version() const { return version_; }

 private:
  void choose(Api wanted);

  void* handle_ = nullptr;
  std::string library_, version_;
  uint16_t api_ = 0;
};

// Names and places that public programs try.
std::vector<std::string> search_order();

}  // namespace parity
