#include <utility>

#include "client/cli/commands/commands.h"

namespace espalier::cli {

void AddOfOne(CLI::App& parent, Command& chosen, const char* word, const char* description,
              const char* what, const char* collection, OfOne run) {
  auto name = std::make_shared<std::string>();
  CLI::App* command = parent.add_subcommand(word, description);
  command->add_option(what, *name, std::string(collection) + "/ID, or only ID")->required();
  command->callback([&chosen, name, collection, run = std::move(run)] {
    chosen = [name, collection, run](Context& context) {
      return run(context, ResourceName(collection, *name));
    };
  });
}

}  // namespace espalier::cli
