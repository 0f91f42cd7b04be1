// Small things that readers of this folder share: cells of a line, and files by name. Internal to
// this folder.
//
// Ownership:   cells point into the line.
// Threading:   pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/data/sandbox.h"
#include "worker/data/table/cells.h"

namespace espalier::worker::data {

// The cells of a line, without blanks around them.
void SplitCells(std::string_view line, std::string_view separator,
                std::vector<std::string_view>& cells);

// The file of this name, plain before compressed.
std::optional<std::string> FindFile(const std::vector<FileEntry>& files, const std::string& name);

// users.csv and items.csv say what is known of users and items: no interactions.
bool IsFieldTable(std::string_view file);

}  // namespace espalier::worker::data
