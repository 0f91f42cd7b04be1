// Answers of an object store: XML that can be read or not, and what is said of errors. Text that
// was escaped is read as what it was.
#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "server/object_store/s3_error.h"
#include "server/object_store/s3_xml.h"
#include "tests/fuzz/fuzz_input.h"

namespace {

using espalier::fuzz::Input;
using espalier::fuzz::Require;
namespace object_store = espalier::server::object_store;

// What was read, as one text.
std::string Read(std::string_view document, bool* whole) {
  std::string read;
  *whole = object_store::ReadXml(document, [&](std::string_view path, const std::string& text) {
    read.append(path).append("=").append(text).append("\n");
  });
  return read;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const int status = 100 + 2 * input.Choice(256);
  object_store::HttpResult answer;
  answer.status = status;
  answer.headers["x-amz-bucket-region"] = std::string(input.Part());
  answer.body = std::string(input.Rest());
  bool whole = false;
  const std::string read = Read(answer.body, &whole);
  // Each visit takes a few bytes of the document, and its path has at most 16 names of 64 bytes.
  Require(read.size() <= 16 * (answer.body.size() + 16) * 65,
          "what is read is bounded by the document");
  object_store::S3Credentials credentials{"AKIA", "a secret key", "a token"};
  const auto error = object_store::ReadError(answer, credentials);
  Require(error.message.find(credentials.secret_access_key) == std::string::npos,
          "no message has a secret key");
  (void)object_store::IsError(answer);
  (void)object_store::IsPassing(error);
  object_store::S3Options options;
  options.endpoint = "http://127.0.0.1:9000";
  options.bucket = "bucket";
  Require(!object_store::ToStatus(error, options, "read", "key").ok(), "an error is an error");
  const std::string document = "<a>" + object_store::EscapeXml(answer.body) + "</a>";
  bool escaped_whole = false;
  const std::string escaped = Read(document, &escaped_whole);
  Require(escaped_whole && escaped == "a=" + answer.body + "\n", "escaped text is read as it was");
  return 0;
}
