// A loaded DLA file, whichever API it is used through.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "container.h"
#include "graph.h"

namespace stand_in {

struct Memory {
  void* data = nullptr;
  size_t size = 0;
};

class Network {
 public:
  // A code of the Neuron runtime; with kNoError `made` is set.
  static int load(const char* path, std::unique_ptr<Network>* made);

  size_t inputs() const { return container_->inputs().size(); }
  size_t outputs() const { return container_->outputs().size(); }
  // Bytes that the caller gives or gets.
  size_t input_size(size_t handle) const { return container_->inputs()[handle].count * width(container_->inputs()[handle]); }
  size_t output_size(size_t handle) const;
  int set_input(uint64_t handle, const void* data, size_t size);
  int set_output(uint64_t handle, void* data, size_t size);
  int run();

 private:
  explicit Network(std::unique_ptr<Container> container);
  size_t width(const Tensor& tensor) const { return tensor.is_float32() && container_->suppress_io() ? 2 : tensor.width; }
  void read(size_t handle, void* values) const;
  int compute(const std::string& fault);
  void write(size_t handle, void* values, const std::string& fault) const;

  std::unique_ptr<Container> container_;
  std::unique_ptr<Graph> graph_;
  std::vector<Memory> in_, out_;
  bool rounds_;
};

// The simulated runtime's own version; PARITY_SIM_RUNTIME_MAJOR changes its first part.
int runtime_major();

}  // namespace stand_in
