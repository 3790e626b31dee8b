// The stand-in DLA file: a header in JSON and the TFLite file that it stands for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace stand_in {

// Return codes of the Neuron runtime.
enum : int { kNoError = 0, kOutOfMemory = 1, kUnexpectedNull = 3, kBadData = 4, kRuntimeError = 6 };

// One input or output. `type` is LiteRT's number of its type.
struct Tensor {
  size_t count = 0;
  size_t columns = 0;  // values of the last dimension
  int type = 1;
  size_t width = 4;

  bool is_float32() const { return type == 1; }
};

// A line for stderr, where the real runtime talks too.
void log(const char* format, ...) __attribute__((format(printf, 1, 2)));

class Container {
 public:
  // Throws std::runtime_error when the file is anything else.
  explicit Container(const std::string& path);
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;
  ~Container();

  const uint8_t* model() const { return model_; }
  size_t model_size() const { return model_size_; }
  int major() const { return major_; }
  // Compiled for the device's own layout: float16 in and out.
  bool suppress_io() const { return suppress_io_; }
  // In handle order.
  const std::vector<Tensor>& inputs() const { return inputs_; }
  const std::vector<Tensor>& outputs() const { return outputs_; }

 private:
  void map(const std::string& path);
  void parse();

  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  const uint8_t* model_ = nullptr;
  size_t model_size_ = 0;
  int major_ = 0;
  bool suppress_io_ = false;
  std::vector<Tensor> inputs_, outputs_;
};

}  // namespace stand_in
