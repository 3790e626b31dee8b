// Without libFuzzer: mutates the golden frames, the same way each time. frame-fuzz [ITERATIONS] [SEED]

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "golden.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Input = std::vector<uint8_t>;

uint64_t state = 1;

uint64_t random_below(uint64_t limit) {  // xorshift64*
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return limit == 0 ? 0 : (state * 0x2545F4914F6CDD1DULL >> 11) % limit;
}

Input bytes_of(const std::string& hex) {
  Input bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::strtoul(hex.substr(i, 2).c_str(), nullptr, 16)));
  }
  return bytes;
}

std::vector<Input> seeds() {
  std::vector<Input> found;
  for (const Golden& golden : kGolden) {
    const Input frame = bytes_of(golden.hex);
    found.push_back(frame);
    found.emplace_back(frame.begin() + 12, frame.end());  // its payload alone
  }
  const char npy[] = "\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2), }          \n";
  found.emplace_back(npy, npy + sizeof npy - 1);
  return found;
}

void mutate(Input& input) {
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
    case 3: input.insert(input.begin() + static_cast<ptrdiff_t>(at), random_below(40), static_cast<uint8_t>(random_below(256))); break;
    case 4: {
      const uint32_t value = kTelling[random_below(sizeof kTelling / sizeof *kTelling)];
      if (input.size() >= 4) std::memcpy(&input[random_below(input.size() - 3)], &value, 4);
      break;
    }
    default: input.insert(input.end(), input.begin(), input.begin() + static_cast<ptrdiff_t>(at)); break;
  }
}

}  // namespace

int main(int count, char** words) {
  const long iterations = count > 1 ? std::atol(words[1]) : 10000;
  state = count > 2 ? std::strtoull(words[2], nullptr, 10) | 1 : 0x9E3779B97F4A7C15ULL;
  const std::vector<Input> all = seeds();
  for (const Input& seed : all) LLVMFuzzerTestOneInput(seed.data(), seed.size());
  for (long i = 0; i < iterations; ++i) {
    Input input = all[random_below(all.size())];
    for (uint64_t n = random_below(4) + 1; n > 0; --n) mutate(input);
    if (input.size() > 65536) input.resize(65536);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%ld inputs\n", iterations);
}
