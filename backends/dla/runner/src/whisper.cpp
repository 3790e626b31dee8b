#include "whisper.h"

#include <chrono>

namespace parity {
namespace {

constexpr size_t kEmbeddings = 0, kEncoding = 1;  // the decoder's inputs, as we ask for them

}  // namespace

Graph::Graph(const Runtime& runtime, const std::string& path, const std::string& name,
             const std::vector<size_t>& inputs, size_t output, size_t output_rows)
    : name_(name), network_(runtime.load(path)), output_rows_(output_rows) {
  match_inputs(inputs);
  match_outputs(output);
}

void Graph::match_inputs(const std::vector<size_t>& counts) {
  const std::vector<size_t>& sizes = network_->input_sizes();
  if (sizes.size() != counts.size()) {
    throw Failure(Code::kShape, name_ + ": expected " + std::to_string(counts.size()) + " inputs, the DLA has " +
                                    std::to_string(sizes.size()));
  }
  std::vector<bool> taken(sizes.size());
  for (const size_t count : counts) {
    size_t handle = 0;
    while (handle < sizes.size() && (taken[handle] || !fits(sizes[handle], count))) ++handle;
    // None fits: the first one that is free gives the message.
    for (size_t free = 0; handle == sizes.size() && free < sizes.size(); ++free) {
      if (!taken[free]) make_tensor(free, sizes[free], count, name_ + " input " + std::to_string(free));
    }
    taken[handle] = true;
    inputs_.push_back(make_tensor(handle, sizes[handle], count, name_ + " input"));
    network_->bind_input(handle, inputs_.back().memory.data());
  }
}

void Graph::match_outputs(size_t count) {
  const std::vector<size_t>& sizes = network_->output_sizes();
  if (sizes.empty()) throw Failure(Code::kShape, name_ + ": the DLA has no output");
  size_t main = 0;
  while (main < sizes.size() && !fits(sizes[main], count)) ++main;
  if (main == sizes.size()) make_tensor(0, sizes[0], count, name_ + " output");
  for (size_t handle = 0; handle < sizes.size(); ++handle) {
    const size_t bytes = sizes[handle];
    const std::string what = name_ + " output " + std::to_string(handle);
    // A tap may be of any type: it is handed out as bytes.
    outputs_.push_back(handle == main ? make_tensor(handle, bytes, count, what)
                                      : Tensor{handle, bytes, Element::kFloat32, Buffer(bytes)});
    network_->bind_output(handle, outputs_.back().memory.data());
  }
  output_ = &outputs_[main];
}

void Graph::bind_input(size_t which, const Tensor& memory) {
  network_->bind_input(inputs_[which].handle, memory.memory.data());
}

uint64_t Graph::run() {
  mark(*output_, output_rows_);
  const auto started = std::chrono::steady_clock::now();
  network_->run();
  const auto took = std::chrono::steady_clock::now() - started;
  const size_t row = first_marked(*output_, output_rows_);
  if (row < output_rows_) {
    throw Failure(Code::kInference, name_ + ": the runtime reported success and did not write its whole output (row " +
                                        std::to_string(row) + " of " + std::to_string(output_rows_) + ")");
  }
  has_run_ = true;
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count());
}

Whisper::Whisper(const Runtime& runtime, const Paths& paths, const Dims& dims)
    : dims_(dims),
      embedding_(paths.embedding, "token embedding", Rows{dims.n_vocab}, dims.n_text_state),
      encoder_(runtime, paths.encoder, "encoder", {dims.features()}, dims.encoding(), dims.n_audio_ctx),
      decoder_(runtime, paths.decoder, "decoder", {dims.embeddings(), dims.encoding()}, dims.logits(),
               dims.n_text_ctx),
      shared_(encoder_.output().element == decoder_.input(kEncoding).element) {}

uint64_t Whisper::encode(Bytes features) {
  encoder_.input(0).store(0, features.data, dims_.features());
  encoding_ = 0;  // should the inference fail, the old encoding is gone too
  const uint64_t took = encoder_.run();
  use_encoding(Source::kEncoder);
  encoding_ = ++last_encoding_;
  return took;
}

void Whisper::set_encoding(Bytes values) {
  decoder_.input(kEncoding).store(0, values.data, dims_.encoding());
  use_encoding(Source::kOwn);
  encoding_ = ++last_encoding_;
}

void Whisper::use_encoding(Source source) {
  const Tensor& own = decoder_.input(kEncoding);
  if (source == Source::kEncoder && shared_) {
    decoder_.bind_input(kEncoding, encoder_.output());
    return;
  }
  if (source == Source::kEncoder) {
    std::vector<float> values(dims_.encoding());
    own.store(0, encoder_.output().load(0, values.size(), values.data()).data, values.size());
  }
  decoder_.bind_input(kEncoding, own);
}

uint64_t Whisper::decode(const std::vector<int32_t>& tokens) {
  embed(tokens);
  return decoder_.run();
}

void Whisper::embed(const std::vector<int32_t>& tokens) {
  const Tensor& input = decoder_.input(kEmbeddings);
  const size_t columns = dims_.n_text_state;
  for (size_t i = 0; i < tokens.size(); ++i) input.store(i * columns, embedding_.row(tokens[i]), columns);
  if (embedded_ > tokens.size()) input.clear(tokens.size() * columns, (embedded_ - tokens.size()) * columns);
  embedded_ = tokens.size();
}

}  // namespace parity
