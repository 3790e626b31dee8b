// What the machine says of itself, and the end of a log file.
#pragma once

#include <cstdint>
#include <string>

namespace parity {

// Resident memory of this process; 0 when it cannot be read.
uint64_t resident_bytes();

// The NPU's temperature, else the hottest thermal zone's, in millidegrees Celsius; -1 when none can be read.
int32_t temperature_millidegrees();

// At most the last `size` bytes of a file from offset `from` on; empty when it cannot be read.
std::string tail(const std::string& path, size_t size, uint64_t from = 0);
uint64_t file_size(const std::string& path);

}  // namespace parity
