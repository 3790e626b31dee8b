// What a client wants of a row of logits when it asks for tokens only.
#pragma once

#include <cstdint>
#include <vector>

namespace parity {

struct Candidate {
  int32_t token;
  float logit;
};

// The k greatest logits, best first, equal ones by lower id. NaN comes before everything, so that it is seen.
std::vector<Candidate> top(const float* logits, int32_t n_vocab, uint32_t k);

// log(sum(exp(logits))) in double; NaN when a logit is NaN, -inf when all are.
float log_sum_exp(const float* logits, int32_t n_vocab);

}  // namespace parity
