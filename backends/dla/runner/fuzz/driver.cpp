// Without libFuzzer: mutates the golden frames, the same way each time. frame-fuzz [ITERATIONS] [SEED]

#include <string>

#include "golden.h"
#include "mutation.h"

namespace {

using fuzz::Input;

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

}  // namespace

int main(int count, char** words) { return fuzz::run(count, words, seeds()); }
