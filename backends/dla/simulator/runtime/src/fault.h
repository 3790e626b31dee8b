// PARITY_SIM_FAULT="name" or "name:N": what goes wrong from the Nth inference of this process on.
#pragma once

#include <string>
#include <vector>

namespace stand_in {

// Whether a fault that strikes at load is asked for.
bool fault_at_load(const char* name);

// Counts an inference, waits PARITY_SIM_COMPUTE_MS and gives the fault that it shall have; empty for none. `hang` never
// returns, `crash` ends the process.
std::string fault_of_inference();

}  // namespace stand_in
