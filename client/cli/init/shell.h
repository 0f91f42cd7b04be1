// Words of commands that people copy into a shell. Pure functions.
#pragma once

#include <string>

namespace espalier::cli::init {

// `word` as a POSIX shell reads it back: as it is, or in single quotes.
std::string ShellWord(const std::string& word);

}  // namespace espalier::cli::init
