// The runner as a process: lock, log, session token, and a child that outlives the shell which started it.
#pragma once

#include <functional>
#include <string>

#include "frame.h"

namespace parity {

// Tells the one who waits how the start ended; called once.
using Report = std::function<void(const std::string& line)>;

// "READY <pid> <address>" and "ERROR <code> <text>", each one line.
std::string ready_line(const std::string& address);
std::string error_line(const Failure& failure);

// Exit code for such a line: 0, or 10 + code.
int exit_code(const std::string& line);

// Run `serve` in a child of its own session and wait until it has reported or died. Returns the exit code.
int daemonise(const std::string& log, const std::function<void(const Report&)>& serve);

// Send stdout and stderr to the log, which starts empty, and stdin to nowhere. Throws Failure kInternal.
void redirect(const std::string& log);

// Hold the lock file for the life of this process. Throws Failure kBusy with what its owner wrote.
void hold_lock(const std::string& path, const std::string& owner);

// Read and delete the file. Throws Failure kInternal when it cannot be read, kBadRequest for other contents.
Digest read_token(const std::string& path);

}  // namespace parity
