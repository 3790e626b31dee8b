#include "values.h"

#include "half.h"
#include "packing.h"
#include "selection.h"

namespace parity {

uint64_t us_since(std::chrono::steady_clock::time_point start) {
  const auto took = std::chrono::steady_clock::now() - start;
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count());
}

Values gather(const Tensor& tensor, const std::vector<size_t>& starts, size_t n) {
  Values values;
  values.halves.resize(starts.size() * n);
  for (size_t i = 0; i < starts.size(); ++i) {
    if (!tensor.load_halves(starts[i], n, &values.halves[i * n])) {
      values.halves.clear();
      break;
    }
  }
  if (!values.halves.empty()) {
    values.parts.push_back({reinterpret_cast<const uint8_t*>(values.halves.data()), values.halves.size() * 2});
    return values;
  }
  for (const size_t start : starts) values.parts.push_back(tensor.load(start, n, nullptr));  // float32: nothing is copied
  return values;
}

Reply finish_values(Writer head, Values values) {
  Reply reply = finish(std::move(head), std::move(values.parts));
  if (!values.halves.empty()) reply.head[6] = kHalves;
  reply.halves = std::move(values.halves);
  return reply;
}

Values gather(const std::vector<float>& floats) {
  Values values;
  values.halves.resize(floats.size());
  if (!to_half_exactly(floats.data(), values.halves.data(), floats.size())) values.halves.clear();
  const bool halved = !values.halves.empty();
  const void* data = halved ? static_cast<const void*>(values.halves.data()) : static_cast<const void*>(floats.data());
  values.parts.push_back({static_cast<const uint8_t*>(data), floats.size() * (halved ? 2 : 4)});
  return values;
}

Reply finish_logits(Writer head, Values values) {
  if (values.halves.empty()) return finish_values(std::move(head), std::move(values));
  const std::vector<uint8_t> bytes = packed(values.halves);
  if (bytes.size() >= values.halves.size() * 2) return finish_values(std::move(head), std::move(values));
  head.raw(bytes.data(), bytes.size());
  Reply reply = finish(std::move(head));
  reply.head[6] = kPacked;
  return reply;
}

void write_best(Writer& body, const float* row, uint32_t n_vocab, uint32_t top_k) {
  const auto n = static_cast<int32_t>(n_vocab);
  body.number(log_sum_exp(row, n));
  for (const Candidate& candidate : top(row, n, top_k)) body.number(candidate.token).number(candidate.logit);
}

}  // namespace parity
