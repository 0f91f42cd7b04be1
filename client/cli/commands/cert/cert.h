// The commands of `espalier cert`, and what they share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "client/cli/commands/cert/folder.h"
#include "client/cli/context.h"

namespace espalier::cli::cert {

void AddCertInit(CLI::App& parent, Command& chosen);
void AddCertIssue(CLI::App& parent, Command& chosen);
void AddCertKeep(CLI::App& parent, Command& chosen);
void AddCertList(CLI::App& parent, Command& chosen);
void AddCertRenew(CLI::App& parent, Command& chosen);
void AddCertRevoke(CLI::App& parent, Command& chosen);

// --dir, and --passphrase-file where the command may use the root's key.
void AddDir(CLI::App& command, Place& place);
void AddPassphraseFile(CLI::App& command, Place& place, const std::string& description);
void AddHosts(CLI::App& command, std::vector<std::string>& hosts, const std::string& description);

}  // namespace espalier::cli::cert
