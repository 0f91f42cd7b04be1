// What every command gets: global options, streams, the connection.
#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/interrupt.h"
#include "client/cli/output.h"
#include "client/lib/client.h"

namespace espalier::cli {

struct GlobalOptions {
  client::ClientOptions client;
  Format format = Format::kTable;
  bool timeout_given = false;
};

// Ownership: borrows everything; lives as long as one command.
struct Context {
  GlobalOptions options;
  std::ostream& out;  // results
  std::ostream& err;  // everything else
  Terminal out_terminal;
  Terminal err_terminal;
  Interrupt* interrupt = nullptr;  // null in tests

  absl::StatusOr<std::unique_ptr<client::Client>> Connect() const {
    return client::Client::Create(options.client);
  }
  std::stop_token stop() const { return interrupt ? interrupt->token() : std::stop_token(); }
  // True when `message` was printed, because the user asked for a format for programs.
  bool PrintAsData(const google::protobuf::Message& message) const {
    if (options.format == Format::kTable) return false;
    PrintData(out, options.format, message);
    return true;
  }
};

// The chosen command: returns the exit code, or an error that is then printed.
using Command = std::function<absl::StatusOr<int>(Context&)>;

// "abc" → "jobs/abc"; full names stay. `collection` is "jobs", "checkpoints" or "workers".
std::string ResourceName(const std::string& collection, const std::string& name);

}  // namespace espalier::cli
