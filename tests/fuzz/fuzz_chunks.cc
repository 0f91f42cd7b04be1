// Blobs in chunks: what a sink got is what arrived, a refused chunk changes nothing, and a blob
// that was cut in chunks of any size is put together again.
#include <algorithm>
#include <cstdint>
#include <string>

#include "common/io/crc32c.h"
#include "common/io/sha256.h"
#include "common/wire/blob.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/messages.h"

namespace {

using espalier::fuzz::Input;
using espalier::fuzz::Require;
namespace wire = espalier::wire;

void Receive(Input& input) {
  const bool honest = input.Choice(2) == 1;
  const uint64_t declared = static_cast<uint64_t>(input.Choice(256)) * 4;
  const std::string digest(input.Part());
  std::string got;
  wire::BlobAssembler assembler(declared, digest, [&got](std::string_view piece) {
    got += piece;
    return absl::OkStatus();
  });
  while (!input.Rest().empty()) {
    espalier::v1::SubmitRequest message;
    if (!espalier::fuzz::Parse(input.Part(), message)) continue;
    espalier::v1::Chunk chunk = message.chunk();
    if (honest) {
      chunk.set_offset(assembler.received());
      chunk.set_crc32c(espalier::io::Crc32c(chunk.data()));
    }
    const uint64_t before = assembler.received();
    const bool taken = assembler.Add(chunk).ok();
    Require(assembler.received() == before + (taken ? chunk.data().size() : 0),
            "a chunk counts when it is taken, and only then");
    Require(got.size() == assembler.received() && got.size() <= declared,
            "a sink gets what was taken, and never more than was declared");
  }
  const bool complete = assembler.complete();
  if (assembler.Finish().ok()) {
    Require(complete && got.size() == declared && espalier::io::Sha256Hex(got) == digest,
            "a blob that is taken has the size and the digest that were declared");
    Require(wire::CheckBlob(got, declared, digest).ok(), "both ways of checking a blob agree");
  }
}

void CutAndPutTogether(Input& input) {
  const size_t chunk_bytes = 1 + static_cast<size_t>(input.Choice(256));
  const std::string blob(input.Rest());
  std::string got;
  wire::BlobAssembler assembler(blob.size(), espalier::io::Sha256Hex(blob),
                                [&got](std::string_view piece) {
                                  got += piece;
                                  return absl::OkStatus();
                                });
  while (assembler.received() < blob.size()) {
    const auto chunk = wire::ChunkAt(blob, assembler.received(), chunk_bytes);
    Require(assembler.Add(chunk).ok(), "a chunk that was cut from a blob is taken");
  }
  Require(assembler.Finish().ok() && got == blob, "the chunks of a blob make the blob");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, std::min<size_t>(size, 16384));
  if (input.Choice(2) == 0) {
    Receive(input);
  } else {
    CutAndPutTogether(input);
  }
  return 0;
}
