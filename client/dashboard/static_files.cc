#include "client/dashboard/static_files.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/dashboard/replies.h"
#include "client/dashboard/routes.h"
#include "common/base/status.h"

namespace espalier::dashboard {
namespace {

// "gzip;q=0" and "identity" do not take it.
bool TakesGzip(const Request& request) {
  for (const auto& part : absl::StrSplit(request.Header("accept-encoding"), ',')) {
    std::string coding(part.data(), part.size());
    coding = absl::AsciiStrToLower(std::string(absl::StripAsciiWhitespace(coding)));
    if (coding == "gzip" || coding == "*") return true;
    if (coding.starts_with("gzip;") && coding.find("q=0") == std::string::npos) return true;
    if (coding.starts_with("gzip;") && coding.find("q=0.") != std::string::npos) return true;
  }
  return false;
}

bool Knows(const Request& request, std::string_view etag) {
  const std::string known = request.Header("if-none-match");
  return known == "*" || known.find(etag) != std::string::npos;
}

}  // namespace

absl::StatusOr<std::string> Unzipped(std::string_view gzip) {
  constexpr int kGzip = 16;
  z_stream stream{};
  if (inflateInit2(&stream, MAX_WBITS + kGzip) != Z_OK) {
    return base::MakeError(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
                           "expected memory to unpack a file of the page, found none");
  }
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(gzip.data()));
  stream.avail_in = static_cast<uInt>(gzip.size());
  std::string text;
  std::array<char, 1 << 14> block;
  int state = Z_OK;
  while (state == Z_OK) {
    stream.next_out = reinterpret_cast<Bytef*>(block.data());
    stream.avail_out = static_cast<uInt>(block.size());
    state = inflate(&stream, Z_NO_FLUSH);
    text.append(block.data(), block.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  if (state == Z_STREAM_END) return text;
  return base::MakeError(absl::StatusCode::kDataLoss, "GZIP_DAMAGED",
                         "expected a file of the page as it was built, found it damaged; build or "
                         "install the program again");
}

std::optional<Reply> StaticReply(const Request& request, std::span<const WebFile> files) {
  const std::string path =
      IsPage(request.target) ? "index.html" : absl::StrJoin(request.target.parts, "/");
  const auto file = std::find_if(files.begin(), files.end(),
                                 [&path](const WebFile& known) { return known.path == path; });
  if (file == files.end()) return std::nullopt;
  Reply reply;
  const bool immutable = file->path.starts_with("assets/");
  reply.headers = {
      {"ETag", std::string(file->etag)},
      {"Cache-Control", immutable ? "public, max-age=31536000, immutable" : "no-cache"},
      {"Vary", "Accept-Encoding"}};
  if (Knows(request, file->etag)) {
    reply.status = 304;
    return reply;
  }
  reply.headers.emplace_back("Content-Type", std::string(file->type));
  if (TakesGzip(request)) {
    reply.headers.emplace_back("Content-Encoding", "gzip");
    reply.body = std::make_shared<const std::string>(file->gzip);
    return reply;
  }
  absl::StatusOr<std::string> text = Unzipped(file->gzip);
  if (!text.ok()) return ErrorReply(text.status());
  reply.body = std::make_shared<const std::string>(*std::move(text));
  return reply;
}

}  // namespace espalier::dashboard
