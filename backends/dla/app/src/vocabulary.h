// vocab.txt: what each token stands for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace parity {

class Vocabulary {
 public:
  // `size` lines "ID WORD": ids from 0 on, in order; WORD is base64 below `eot`, and "<|...|>" from there on.
  // Throws Failure kLoad or kShape.
  Vocabulary(const std::string& path, uint32_t size, uint32_t eot);

  // The UTF-8 bytes of the tokens below end-of-text, joined; others have none.
  std::string bytes(const std::vector<int32_t>& tokens) const;
  // The text of a window: its bytes as UTF-8, without white space at its ends.
  std::string text(const std::vector<int32_t>& tokens) const;

 private:
  std::vector<std::string> words_;
  uint32_t eot_;
};

}  // namespace parity
