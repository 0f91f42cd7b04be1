// JSON from files that nobody vouches for. Include it in .cc files only: it brings a whole parser.
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::language {

// The object that `text` is, or a discarded value: for anything else, for more than `max_depth`
// levels, and for an object that has a key twice (of which parsers would take one or the other).
inline nlohmann::json ParseStrictObject(std::string_view text, int max_depth) {
  using Json = nlohmann::json;
  bool ok = true;
  std::vector<std::set<std::string>> keys;
  const auto guard = [&](int depth, Json::parse_event_t event, Json& value) {
    const auto level = static_cast<size_t>(depth);
    if (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start) {
      ok = ok && depth < max_depth;
      keys.resize(level + 1);
      keys.back().clear();
    } else if (event == Json::parse_event_t::key) {
      // Keys are reported at the depth of their values: one more than their object's.
      ok = ok && keys[level - 1].insert(value.get<std::string>()).second;
    }
    return ok;
  };
  Json json = Json::parse(text.begin(), text.end(), guard, false);
  if (!ok || !json.is_object()) return Json(Json::value_t::discarded);
  return json;
}

}  // namespace espalier::language
