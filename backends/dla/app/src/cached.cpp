#include "cached.h"

#include <algorithm>

#include "faults.h"
#include "stacked.h"

namespace parity {
namespace {

std::vector<float> row_of(const std::unique_ptr<Embedding>& table, int32_t place) {
  if (table == nullptr) return {};
  std::vector<float> row(table->row_size() / 4);
  std::memcpy(row.data(), table->row(place), table->row_size());
  return row;
}

// Numbers of a file may have been compiled into the other type of floats, which its sizes say.
void take_types(std::vector<PortForm>& ports, const std::vector<size_t>& sizes) {
  for (PortForm& form : ports) {
    if (form.handle >= sizes.size() || (form.kind != Kind::kFloat32 && form.kind != Kind::kFloat16)) continue;
    for (const Kind kind : {Kind::kFloat32, Kind::kFloat16}) {
      if (form.count() * width(kind) == sizes[form.handle]) form.kind = kind;
    }
  }
}

LayoutForm told(const Stepped& cache, const Model& model) {
  const Network &encoder = cache.encoder(), &decoder = cache.decoder();
  if (!model.layout) return stacked(encoder, decoder, model);
  LayoutForm layout = *model.layout;
  take_types(layout.features, encoder.input_sizes());
  take_types(layout.encoder_outputs, encoder.output_sizes());
  take_types(layout.inputs, decoder.input_sizes());
  take_types(layout.outputs, decoder.output_sizes());
  return layout;
}

// What a cache that is not reset between two windows is: the new window's encoding is all that changes.
void change_encoding(Stepped& cache) {
  const std::vector<PortForm>& inputs = cache.layout().inputs;
  const auto is_encoding = [](const PortForm& form) { return form.role == Role::kEncoderOutput; };
  const auto input = std::find_if(inputs.begin(), inputs.end(), is_encoding);
  if (input != inputs.end()) cache.replace(static_cast<uint32_t>(input - inputs.begin()), cache.encoded());
}

}  // namespace

CachedDecoder::CachedDecoder(const Runtime& runtime, const Model& model)
    : cache_(runtime, model.paths.encoder, model.paths.decoder), n_encoding_(model.dims.encoding()) {
  cache_.lay_out(told(cache_, model));
  require(model);
  const auto rows = static_cast<uint32_t>(cache_.n_token_row()), places = static_cast<uint32_t>(cache_.n_position_row());
  if (rows > 0) tokens_ = std::make_unique<Embedding>(model.paths.embedding, "token embedding", Rows{model.dims.n_vocab}, rows);
  if (places > 0) positions_ = std::make_unique<Embedding>(model.positions, "position embedding", Rows{room(), true}, places);
}

void CachedDecoder::require(const Model& model) const {
  const auto same = [&](const char* what, size_t stated, size_t found) {
    if (stated == found) return;
    throw Failure(Code::kShape, model.paths.decoder + ": " + what + ": model.json states " + std::to_string(stated) + ", the layout " + std::to_string(found));
  };
  same("numbers of the features", model.dims.features(), cache_.n_features());
  same("ids of the vocabulary", model.dims.n_vocab, cache_.layout().n_vocab);
  if (cache_.n_position_row() > 0 && model.positions.empty()) {
    throw Failure(Code::kLoad, "model.json: \"position_embedding\": expected a file, the decoder takes rows of positions");
  }
}

void CachedDecoder::encode(Bytes features) {
  cache_.encode(features);
  fed_.clear();
  if (fault("cache_not_reset") && cache_.encoding() > 1) {
    change_encoding(cache_);
  } else {
    cache_.begin();
  }
}

std::vector<float> CachedDecoder::encoded() const {
  std::vector<float> values = cache_.encoded();
  if (cache_.layout().encoder_outputs.size() != 1 || values.size() != n_encoding_) values.clear();
  return values;
}

const float* CachedDecoder::next(const std::vector<int32_t>& tokens) {
  const auto differing = std::mismatch(fed_.begin(), fed_.end(), tokens.begin(), tokens.end()).second;
  auto same = static_cast<size_t>(differing - tokens.begin());
  // The row behind what is kept is there only where nothing is taken back.
  if (same == tokens.size() && same < fed_.size()) same -= 1;
  cache_.rewind(static_cast<uint32_t>(fed_.size() - same));
  fed_.resize(same);
  for (size_t i = same; i < tokens.size(); ++i) feed(tokens[i]);
  return cache_.logits().data();
}

void CachedDecoder::feed(int32_t token) {
  if (fault("slot_skipped") && !fed_.empty()) cache_.skip();
  if (cache_.position() >= room()) {
    throw Failure(Code::kInference, "the cache is full: it has room for " + std::to_string(room()) + " tokens");
  }
  const auto position = static_cast<int32_t>(cache_.position());
  cache_.feed(token, row_of(tokens_, token), row_of(positions_, position));
  fed_.push_back(token);
}

}  // namespace parity
