#include "machine.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace parity {

uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t total = 0, resident = 0;
  file >> total >> resident;
  return file ? resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) : 0;
}

int32_t temperature_millidegrees() {
  int32_t hottest = -1;
  for (int zone = 0; zone < 64; ++zone) {
    const std::string folder = "/sys/class/thermal/thermal_zone" + std::to_string(zone);
    std::ifstream file(folder + "/temp");
    int32_t value = 0;
    if (!(file >> value)) continue;
    std::string name;
    std::ifstream(folder + "/type") >> name;
    if (name.find("apu") != std::string::npos || name.find("npu") != std::string::npos) return value;
    hottest = std::max(hottest, value);
  }
  return hottest;
}

uint64_t file_size(const std::string& path) {
  struct stat facts {};
  return stat(path.c_str(), &facts) == 0 ? static_cast<uint64_t>(facts.st_size) : 0;
}

std::string tail(const std::string& path, size_t size, uint64_t from) {
  const uint64_t end = file_size(path);
  if (end <= from) return "";
  const uint64_t start = std::max<uint64_t>(from, end > size ? end - size : 0);
  std::ifstream file(path, std::ios::binary);
  std::string text(static_cast<size_t>(end - start), '\0');
  file.seekg(static_cast<std::streamoff>(start));
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(0, file.gcount())));
  return text;
}

}  // namespace parity
