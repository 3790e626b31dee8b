// Encoder and decoder, resident: the encoder's output stays where it is and is the decoder's input.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dims.h"
#include "embedding.h"
#include "runtime.h"
#include "tensor.h"

namespace parity {

// One network with its buffers: inputs that we know, the output that we read, and whatever else it puts out.
class Graph {
 public:
  // `inputs` and `output`: number of values of each. Inputs are matched by size, equal sizes in the order given.
  // Throws Failure: what loading gives, and kShape.
  Graph(const Runtime& runtime, const std::string& path, const std::string& name, const std::vector<size_t>& inputs,
        size_t output, size_t output_rows);

  const Tensor& input(size_t which) const { return inputs_[which]; }
  const Tensor& output() const { return *output_; }
  void bind_input(size_t which, const Tensor& memory);
  // Microseconds that the inference took. Throws Failure, also when the output was not written to its end.
  uint64_t run();
  bool has_run() const { return has_run_; }
  // Each output as the runtime wrote it.
  const std::vector<Tensor>& outputs() const { return outputs_; }

 private:
  void match_inputs(const std::vector<size_t>& counts);
  void match_outputs(size_t count);

  std::string name_;
  std::unique_ptr<Network> network_;
  std::vector<Tensor> inputs_, outputs_;
  const Tensor* output_ = nullptr;
  size_t output_rows_;
  bool has_run_ = false;
};

struct Paths {
  std::string encoder, decoder, embedding;
};

class Whisper {
 public:
  Whisper(const Runtime& runtime, const Paths& paths, const Dims& dims);

  const Dims& dims() const { return dims_; }
  const Graph& encoder() const { return encoder_; }
  const Graph& decoder() const { return decoder_; }

  // float32 [n_mels, n_frames], may be unaligned. Microseconds of the inference.
  uint64_t encode(Bytes features);
  // Another stage's encoder output instead of our own, float32 [n_audio_ctx, n_audio_state].
  void set_encoding(Bytes values);
  // The id of the encoding that decode() uses, from 1 on; 0 while there is none.
  uint32_t encoding() const { return encoding_; }
  // Microseconds of the inference.
  uint64_t decode(const std::vector<int32_t>& tokens);

 private:
  enum class Source { kEncoder, kOwn };
  void use_encoding(Source source);
  void embed(const std::vector<int32_t>& tokens);

  Dims dims_;
  Embedding embedding_;
  Graph encoder_, decoder_;
  bool shared_;
  uint32_t encoding_ = 0, last_encoding_ = 0;
  size_t embedded_ = 0;
};

}  // namespace parity
