#include "selection.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace parity {
namespace {

bool better(const Candidate& a, const Candidate& b) {
  const bool a_nan = std::isnan(a.logit), b_nan = std::isnan(b.logit);
  if (a_nan != b_nan) return a_nan;
  if (!a_nan && a.logit != b.logit) return a.logit > b.logit;
  return a.token < b.token;
}

}  // namespace

std::vector<Candidate> top(const float* logits, int32_t n_vocab, uint32_t k) {
  std::vector<Candidate> heap;  // the worst of the kept ones in front
  heap.reserve(k);
  for (int32_t token = 0; token < n_vocab; ++token) {
    const Candidate candidate{token, logits[token]};
    if (heap.size() < k) {
      heap.push_back(candidate);
      std::push_heap(heap.begin(), heap.end(), better);
    } else if (better(candidate, heap.front())) {
      std::pop_heap(heap.begin(), heap.end(), better);
      heap.back() = candidate;
      std::push_heap(heap.begin(), heap.end(), better);
    }
  }
  std::sort_heap(heap.begin(), heap.end(), better);
  return heap;
}

float log_sum_exp(const float* logits, int32_t n_vocab) {
  float greatest = -std::numeric_limits<float>::infinity();
  for (int32_t i = 0; i < n_vocab; ++i) {
    if (std::isnan(logits[i])) return logits[i];
    greatest = std::max(greatest, logits[i]);
  }
  if (std::isinf(greatest)) return greatest;
  double sum = 0;
  for (int32_t i = 0; i < n_vocab; ++i) sum += std::exp(static_cast<double>(logits[i]) - greatest);
  return static_cast<float>(greatest + std::log(sum));
}

}  // namespace parity
