#include "client/dashboard/streams/frame.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "fmt/format.h"

namespace espalier::dashboard {

Frame MakeFrame(std::string_view event, std::string_view data, std::string_view id) {
  const bool usable = !id.empty() && std::all_of(id.begin(), id.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
  while (!data.empty() && data.back() == '\n') data.remove_suffix(1);
  return std::make_shared<const std::string>(
      fmt::format("{}event: {}\ndata: {}\n\n", usable ? fmt::format("id: {}\n", id) : std::string(),
                  event, data));
}

}  // namespace espalier::dashboard
