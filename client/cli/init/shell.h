// Words of commands that people copy into a shell. Pure functions.
#pragma once

#include <string>

namespace espalier::cli::init {

// `word` as a POSIX shell reads it back: as it is, or in single quotes.
std::string ShellWord(const std::string& word);

// `text` as a name that data sets and jobs may have: lower-case letters, digits and '-', at
// most 50.
std::string AsName(const std::string& text);

// Whether a folder of this name can be a data set: as CheckDatasetName() of the worker.
bool IsDatasetName(const std::string& name);

}  // namespace espalier::cli::init
