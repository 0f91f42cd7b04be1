#include "client/cli/commands/cert/cert.h"

#include "client/cli/commands/commands.h"

namespace espalier::cli {
namespace cert {

void AddDir(CLI::App& command, Place& place) {
  command.add_option("--dir", place.dir, "Folder of the authorities and of what they issued")
      ->type_name("FOLDER")
      ->transform(CLI::Validator(
          [](std::string& word) -> std::string {
            while (word.size() > 1 && word.ends_with('/')) word.pop_back();
            return word.empty() ? "expected a folder, found an empty name" : "";
          },
          ""))
      ->capture_default_str();
}

void AddPassphraseFile(CLI::App& command, Place& place, const std::string& description) {
  command.add_option("--passphrase-file", place.passphrase_file, description)->type_name("FILE");
}

void AddHosts(CLI::App& command, std::vector<std::string>& hosts, const std::string& description) {
  command.add_option("--host", hosts, description)
      ->type_name("HOST")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

}  // namespace cert

void AddCert(CLI::App& parent, Command& chosen) {
  CLI::App* group = parent.add_subcommand("cert", "Certificates: who may call a coordinator");
  group->require_subcommand(1);
  // None of them talks to a coordinator. Commands inherit it.
  group->footer(
      "-o json and -o yaml print the result for programs. Guide:\n"
      "docs/security/certificates.md.\n"
      "Environment and exit codes: espalier --help\n");
  cert::AddCertInit(*group, chosen);
  cert::AddCertIssue(*group, chosen);
  cert::AddCertKeep(*group, chosen);
  cert::AddCertList(*group, chosen);
  cert::AddCertRenew(*group, chosen);
  cert::AddCertRevoke(*group, chosen);
}

}  // namespace espalier::cli
