// Messages from arbitrary bytes.
#pragma once

#include <google/protobuf/message_lite.h>
#include <google/protobuf/stubs/logging.h>

#include <string_view>

namespace espalier::fuzz {

// Whether `bytes` are such a message. What is wrong with others would be a line for each input.
inline bool Parse(std::string_view bytes, google::protobuf::MessageLite& message) {
  static const auto before = google::protobuf::SetLogHandler(nullptr);
  (void)before;
  return message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

}  // namespace espalier::fuzz
