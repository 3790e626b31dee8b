#include "decoding.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "faults.h"

namespace parity {
namespace {

// Ids of the rows that this model chooses from. Throws where a logit is no number.
void require_finite(const float* logits, uint32_t n_vocab, size_t step) {
  for (uint32_t id = 0; id < n_vocab; ++id) {
    if (std::isfinite(logits[id])) continue;
    throw Failure(Code::kInference, "step " + std::to_string(step) + ": the logit of id " + std::to_string(id) +
                                        (std::isnan(logits[id]) ? " is NaN" : " is infinite"));
  }
}

int32_t greatest(const float* logits, const std::vector<bool>& forbidden) {
  int32_t best = 0;
  float value = -std::numeric_limits<float>::infinity();
  for (size_t id = 0; id < forbidden.size(); ++id) {
    if (forbidden[id] || !(logits[id] > value)) continue;
    best = static_cast<int32_t>(id);
    value = logits[id];
  }
  return best;
}

std::vector<bool> mask_of(uint32_t n_vocab, const std::vector<int32_t>& ids) {
  std::vector<bool> mask(n_vocab);
  for (const int32_t id : ids) mask[static_cast<size_t>(id)] = true;
  return mask;
}

}  // namespace

FixedDecoder::FixedDecoder(const Runtime& runtime, const Model& model)
    : whisper_(runtime, model.paths, model.dims), row_(model.dims.n_vocab) {}

std::vector<float> FixedDecoder::encoded() const {
  std::vector<float> values(whisper_.dims().encoding());
  const Bytes bytes = whisper_.encoder().output().load(0, values.size(), values.data());
  if (bytes.data != reinterpret_cast<const uint8_t*>(values.data())) std::memcpy(values.data(), bytes.data, bytes.size);
  return values;
}

const float* FixedDecoder::next(const std::vector<int32_t>& tokens) {
  if (fault("positions_zero")) {  // the positions are inside the graph: it is fed the same row at every place instead
    whisper_.decode(std::vector<int32_t>(tokens.size(), tokens[0]));
  } else {
    whisper_.decode(tokens);
  }
  const size_t n_vocab = row_.size();
  const Bytes values = whisper_.decoder().output().load((tokens.size() - 1) * n_vocab, n_vocab, row_.data());
  if (values.data != reinterpret_cast<const uint8_t*>(row_.data())) std::memcpy(row_.data(), values.data, 4 * n_vocab);
  if (fault("nan_logits")) std::fill(row_.begin(), row_.end(), std::numeric_limits<float>::quiet_NaN());
  return row_.data();
}

std::vector<int32_t> prompt_of(const Model& model, const Rules& rules, const std::string& language,
                               const std::string& task) {
  if (!rules.prompt.empty()) return rules.prompt;
  if (!model.multilingual()) return {model.sot, model.no_timestamps};
  const int32_t spoken = model.languages.at(fault("silent_english") ? "en" : language);
  std::vector<int32_t> prompt = {model.sot, spoken, task == "translate" ? model.translate : model.transcribe};
  if (!fault("timestamps_mode")) prompt.push_back(model.no_timestamps);
  if (fault("wrong_prompt_ids")) {  // large-v3 has one language more than the multilingual vocabulary before it
    const int32_t shift = model.vocabulary_size == 51866 ? -1 : 1;
    for (size_t i = 2; i < prompt.size(); ++i) prompt[i] += shift;
  }
  return prompt;
}

std::string detect_language(const Model& model, Decoder& decoder) {
  if (!model.multilingual()) return "en";
  const float* logits = decoder.next({model.sot});
  if (!fault("nan_logits")) require_finite(logits, model.dims.n_vocab, 0);
  const auto likelier = [&](const auto& a, const auto& b) { return logits[a.second] < logits[b.second]; };
  return std::max_element(model.languages.begin(), model.languages.end(), likelier)->first;
}

Decoded decode(const Model& model, const Rules& rules, const std::vector<int32_t>& prompt, Decoder& decoder) {
  if (prompt.size() > decoder.room()) {
    throw Failure(Code::kBadRequest, "a prompt of " + std::to_string(prompt.size()) +
                                         " ids, the decoder has room for " + std::to_string(decoder.room()));
  }
  // The last position still predicts one token.
  uint32_t limit = decoder.room() - static_cast<uint32_t>(prompt.size()) + 1;
  if (rules.max_tokens != 0) limit = std::min(limit, rules.max_tokens);
  const std::vector<bool> always = mask_of(model.dims.n_vocab, rules.suppress);
  std::vector<bool> first = always;
  for (const int32_t id : rules.suppress_first) first[static_cast<size_t>(id)] = true;
  Decoded decoded{prompt, {}, "length"};
  std::vector<int32_t> fed = prompt;
  for (uint32_t step = 0; step < limit; ++step) {
    const float* logits = decoder.next(fed);
    if (!fault("nan_logits")) require_finite(logits, model.dims.n_vocab, step);
    const int32_t token = greatest(logits, step == 0 ? first : always);
    decoded.tokens.push_back(token);
    fed.push_back(token);
    if (token == model.eot && !fault("eot_passed")) {
      decoded.ended = "eot";
      break;
    }
  }
  return decoded;
}

}  // namespace parity
