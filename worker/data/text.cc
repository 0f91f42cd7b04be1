#include "worker/data/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "common/base/status.h"
#include "common/language/tokenizer.h"
#include "worker/data/byte_stream.h"
#include "worker/data/errors.h"
#include "worker/data/json_lines.h"
#include "worker/data/table/encoding.h"

namespace espalier::worker::data {
namespace {

// Tokens are kept as float32 in rows, which hold whole numbers up to 2^24.
constexpr int64_t kMaxVocabulary = 1 << 24;
constexpr size_t kBlockBytes = 1 << 20;
// A text beside its tokens, which are one for each byte at most.
constexpr int64_t kBytesPerTextByte = 1 + sizeof(int32_t);

// The name without ".gz".
std::string_view PlainName(std::string_view name) {
  if (name.ends_with(".gz")) name.remove_suffix(3);
  return name;
}

// The file called `stem` with one of the endings; "" when there is none.
std::string FindPart(const std::vector<FileEntry>& files, std::string_view stem) {
  for (const std::string_view ending : {".txt", ".jsonl", ".bin", ".npy"}) {
    for (const FileEntry& file : files) {
      if (PlainName(file.name) == fmt::format("{}{}", stem, ending)) return file.name;
    }
  }
  return "";
}

absl::StatusOr<std::string> ReadWhole(const DataRoot& root, const std::string& dataset,
                                      const std::string& file, const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(UniqueFd fd, root.OpenFile(dataset, file));
  ESPALIER_ASSIGN_OR_RETURN(ByteStream stream,
                            ByteStream::Open(std::move(fd), dataset + "/" + file, options));
  std::string bytes;
  for (size_t got = kBlockBytes; got == kBlockBytes;) {
    const size_t before = bytes.size();
    bytes.resize(before + kBlockBytes);
    ESPALIER_ASSIGN_OR_RETURN(got, stream.Read(bytes.data() + before, kBlockBytes));
    bytes.resize(before + got);
    ESPALIER_RETURN_IF_ERROR(
        options.CheckMemory(stream.name(), static_cast<int64_t>(bytes.size()) * kBytesPerTextByte));
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<language::Tokenizer>> OpenTokenizer(const DataRoot& root,
                                                                   const v1::DataSpec& spec,
                                                                   const TextLayout& layout,
                                                                   LoadOptions options) {
  const std::string& kind = spec.text().tokenizer();
  if (kind.empty() || kind == "bytes") return language::MakeByteTokenizer();
  if (kind != "file") {
    return base::InvalidArgument(
        kDataSpecInvalid,
        fmt::format("data.text.tokenizer: expected bytes or file for a text file, found {}; {} is "
                    "for .bin files",
                    Quote(kind), Quote(kind)));
  }
  if (layout.tokenizer.empty()) {
    return base::NotFound(
        "TOKENIZER_NOT_FOUND",
        fmt::format("{}: expected tokenizer.model, tokenizer.json, tokenizer.bin or tok<N>.bin "
                    "beside the text, found none; add the model's tokenizer, or set "
                    "data.text.tokenizer to bytes",
                    spec.dataset()));
  }
  options.max_file_bytes = language::kMaxTokenizerBytes;
  ESPALIER_ASSIGN_OR_RETURN(const std::string bytes,
                            ReadWhole(root, spec.dataset(), layout.tokenizer, options));
  auto tokenizer = language::ParseTokenizer(layout.tokenizer, bytes);
  if (!tokenizer.ok()) {
    return base::Annotate(tokenizer.status(), spec.dataset() + "/" + layout.tokenizer);
  }
  return tokenizer;
}

// The tokens of a file of JSON lines.
absl::StatusOr<std::vector<int32_t>> ReadJsonTokens(const DataRoot& root, const v1::DataSpec& spec,
                                                    const TextLayout& layout,
                                                    const std::string& file,
                                                    const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const auto tokenizer, OpenTokenizer(root, spec, layout, options));
  ESPALIER_ASSIGN_OR_RETURN(UniqueFd fd, root.OpenFile(spec.dataset(), file));
  ESPALIER_ASSIGN_OR_RETURN(ByteStream stream,
                            ByteStream::Open(std::move(fd), spec.dataset() + "/" + file, options));
  return ReadJsonLines(stream, spec.text().field().empty() ? "text" : spec.text().field(),
                       *tokenizer);
}

// The tokens of one file.
absl::StatusOr<std::vector<int32_t>> ReadTokens(const DataRoot& root, const v1::DataSpec& spec,
                                                const TextLayout& layout, const std::string& file,
                                                const LoadOptions& options) {
  if (file.empty()) return std::vector<int32_t>();
  if (PlainName(file).ends_with(".jsonl")) return ReadJsonTokens(root, spec, layout, file, options);
  ESPALIER_ASSIGN_OR_RETURN(const std::string bytes,
                            ReadWhole(root, spec.dataset(), file, options));
  const std::string& kind = spec.text().tokenizer();
  absl::StatusOr<std::vector<int32_t>> tokens;
  if (PlainName(file).ends_with(".npy")) {
    tokens = language::ParseTokenNpy(bytes, kMaxVocabulary);
  } else if (PlainName(file).ends_with(".bin")) {
    if (kind != "uint16" && kind != "uint32") {
      return base::InvalidArgument(
          kDataSpecInvalid,
          fmt::format("data.text.tokenizer: expected uint16 or uint32 for {}/{}, found {}",
                      spec.dataset(), file, Quote(kind)));
    }
    tokens = language::ParseTokenFile(bytes, kind == "uint16" ? 2 : 4, kMaxVocabulary);
  } else {
    // Its bytes would be learned, every second of which is zero.
    constexpr size_t kBeginning = 4;
    ESPALIER_RETURN_IF_ERROR(CheckTextEncoding(std::string_view(bytes).substr(0, kBeginning),
                                               spec.dataset() + "/" + file));
    ESPALIER_ASSIGN_OR_RETURN(const auto tokenizer, OpenTokenizer(root, spec, layout, options));
    tokens = tokenizer->Encode(bytes);
    if (tokenizer->bos() >= 0) tokens->insert(tokens->begin(), tokenizer->bos());
  }
  if (!tokens.ok()) return base::Annotate(tokens.status(), spec.dataset() + "/" + file);
  return tokens;
}

// Cuts tokens into rows.
absl::Status AppendExamples(const std::vector<int32_t>& tokens, const v1::TextData& text,
                            const LoadOptions& options, DatasetBuilder& builder) {
  const int64_t context = text.context();
  const int64_t stride = text.stride() > 0 ? text.stride() : context;
  const auto size = static_cast<int64_t>(tokens.size());
  std::vector<float> row(static_cast<size_t>(context));
  for (int64_t begin = 0; begin + context < size; begin += stride) {
    ESPALIER_RETURN_IF_ERROR(options.CheckGoesOn());
    std::copy_n(tokens.begin() + begin, context, row.begin());
    ESPALIER_RETURN_IF_ERROR(builder.AppendRow(row));
    builder.AppendLabel(tokens[static_cast<size_t>(begin + context)]);
  }
  return absl::OkStatus();
}

int32_t LargestOf(const std::vector<int32_t>& tokens) {
  return tokens.empty() ? 0 : *std::ranges::max_element(tokens);
}

}  // namespace

absl::StatusOr<TextLayout> DetectTextLayout(const std::string& dataset,
                                            const std::vector<FileEntry>& files) {
  TextLayout layout;
  layout.train = FindPart(files, "train");
  layout.test = FindPart(files, "test");
  std::vector<std::string> names;
  std::vector<std::string> texts;
  for (const FileEntry& file : files) {
    names.push_back(file.name);
    const std::string_view plain = PlainName(file.name);
    if (plain.ends_with(".txt") || plain.ends_with(".jsonl")) texts.push_back(file.name);
  }
  layout.tokenizer = language::TokenizerFileAmong(names);
  if (layout.train.empty() && texts.size() == 1 && layout.test.empty()) layout.train = texts[0];
  if (!layout.train.empty()) return layout;
  return DatasetInvalid(dataset, {"",
                                  "train.txt, train.jsonl, train.bin or train.npy, or one single "
                                  ".txt or .jsonl file",
                                  fmt::format("{} of these two under other names", texts.size()),
                                  "rename the one to train on to train.txt or train.jsonl"});
}

absl::StatusOr<TextTokens> LoadTextTokens(const DataRoot& root, const v1::DataSpec& spec,
                                          const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<FileEntry> files, root.Files(spec.dataset()));
  ESPALIER_ASSIGN_OR_RETURN(const TextLayout layout, DetectTextLayout(spec.dataset(), files));
  TextTokens tokens;
  ESPALIER_ASSIGN_OR_RETURN(tokens.train, ReadTokens(root, spec, layout, layout.train, options));
  ESPALIER_ASSIGN_OR_RETURN(tokens.test, ReadTokens(root, spec, layout, layout.test, options));
  return tokens;
}

absl::StatusOr<Dataset> LoadText(const DataRoot& root, const v1::DataSpec& spec,
                                 const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const TextTokens tokens, LoadTextTokens(root, spec, options));
  const auto shortest = static_cast<size_t>(spec.text().context()) + 1;
  if (tokens.train.size() < shortest) {
    return DatasetInvalid(
        spec.dataset(),
        {"",
         fmt::format("a training text of at least {} tokens, data.text.context and one more",
                     shortest),
         fmt::format("{}", tokens.train.size()), "use a longer text or a shorter context"});
  }
  LoadOptions rows = options;
  rows.max_memory_bytes -=
      static_cast<int64_t>((tokens.train.size() + tokens.test.size()) * sizeof(int32_t));
  DatasetBuilder builder(rows);
  ESPALIER_RETURN_IF_ERROR(builder.SetFeatures(spec.text().context(), spec.dataset()));
  ESPALIER_RETURN_IF_ERROR(AppendExamples(tokens.train, spec.text(), options, builder));
  builder.EndTraining();
  ESPALIER_RETURN_IF_ERROR(AppendExamples(tokens.test, spec.text(), options, builder));
  return builder.Finish(spec.dataset(), "text",
                        std::max(LargestOf(tokens.train), LargestOf(tokens.test)) + 1);
}

}  // namespace espalier::worker::data
