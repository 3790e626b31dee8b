// Base64, as vocab.txt and model.json hold bytes.
#pragma once

#include <string>

namespace parity {

// Appends what a word stands for; false for what is no base64. The word of no bytes is "=".
bool decode_base64(const std::string& word, std::string& bytes);

}  // namespace parity
