// Changes to an input as a fuzzer would make them, the same ones each time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace fuzz {

using Input = std::vector<uint8_t>;

inline uint64_t state = 1;

inline uint64_t random_below(uint64_t limit) {  // xorshift64*
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return limit == 0 ? 0 : (state * 0x2545F4914F6CDD1DULL >> 11) % limit;
}

inline void mutate(Input& input) {
  const uint64_t at = random_below(input.size());
  static const uint32_t kTelling[] = {0, 1, 0x7F, 0xFF, 0x1000, 0x1001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
  switch (random_below(6)) {
    case 0:
      if (!input.empty()) input[at] ^= static_cast<uint8_t>(1u << random_below(8));
      break;
    case 1:
      if (!input.empty()) input[at] = static_cast<uint8_t>(random_below(256));
      break;
    case 2: input.resize(at); break;
    case 3: {
      const uint64_t count = random_below(40);
      const auto value = static_cast<uint8_t>(random_below(256));
      input.insert(input.begin() + static_cast<ptrdiff_t>(at), count, value);
      break;
    }
    case 4: {
      const uint32_t value = kTelling[random_below(sizeof kTelling / sizeof *kTelling)];
      if (input.size() >= 4) std::memcpy(&input[random_below(input.size() - 3)], &value, 4);
      break;
    }
    default: input.insert(input.end(), input.begin(), input.begin() + static_cast<ptrdiff_t>(at)); break;
  }
}

// The words of the command line: [ITERATIONS] [SEED].
inline int run(int count, char** words, const std::vector<Input>& seeds) {
  const long iterations = count > 1 ? std::atol(words[1]) : 10000;
  state = count > 2 ? std::strtoull(words[2], nullptr, 10) | 1 : 0x9E3779B97F4A7C15ULL;
  for (const Input& seed : seeds) LLVMFuzzerTestOneInput(seed.data(), seed.size());
  for (long i = 0; i < iterations; ++i) {
    Input input = seeds[random_below(seeds.size())];
    for (uint64_t n = random_below(4) + 1; n > 0; --n) mutate(input);
    if (input.size() > 65536) input.resize(65536);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%ld inputs\n", iterations);
  return 0;
}

}  // namespace fuzz
