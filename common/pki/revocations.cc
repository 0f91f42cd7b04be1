#include "common/pki/revocations.h"

#include <openssl/pem.h>

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "common/base/status.h"
#include "common/pki/openssl.h"
#include "fmt/format.h"

namespace espalier::pki {
namespace {

using ListPtr = OpenSsl<X509_CRL, X509_CRL_free>;

absl::Status Invalid(const std::string& found, const std::string& advice) {
  return base::InvalidArgument(
      "CRL_INVALID", fmt::format("expected lists of revoked certificates (PEM) that the trusted "
                                 "authorities signed, found {}; {}",
                                 found, advice));
}

absl::StatusOr<ListPtr> ReadList(const PemBlock& block) {
  if (block.type != PEM_STRING_X509_CRL) {
    return Invalid("a block of another kind",
                   "leave only blocks that begin with -----BEGIN X509 "
                   "CRL----- in the file");
  }
  const auto* begin = reinterpret_cast<const unsigned char*>(block.bytes.data());
  const unsigned char* next = begin;
  ListPtr list(d2i_X509_CRL(nullptr, &next, static_cast<long>(block.bytes.size())));
  if (list == nullptr || next != begin + block.bytes.size()) {
    return Invalid("a damaged one", "make the file anew");
  }
  return list;
}

// A list that says less than which certificates of its signer are revoked would be misread.
bool IsPlain(const X509_CRL& list) {
  for (int i = 0; i < X509_CRL_get_ext_count(&list); ++i) {
    X509_EXTENSION* extension = X509_CRL_get_ext(&list, i);
    const int nid = OBJ_obj2nid(X509_EXTENSION_get_object(extension));
    if (nid == NID_issuing_distribution_point) {
      const OpenSsl<ISSUING_DIST_POINT, ISSUING_DIST_POINT_free> point(
          static_cast<ISSUING_DIST_POINT*>(X509V3_EXT_d2i(extension)));
      if (point == nullptr || point->indirectCRL > 0) return false;
    } else if (nid == NID_delta_crl || X509_EXTENSION_get_critical(extension) != 0) {
      return false;
    }
  }
  return true;
}

// Null where none of them signed it.
X509* SignerOf(X509_CRL& list, const std::vector<CertificatePtr>& authorities) {
  const auto signer = std::ranges::find_if(authorities, [&list](const CertificatePtr& authority) {
    // Without key usage an authority may do everything.
    return X509_NAME_cmp(X509_CRL_get_issuer(&list), X509_get_subject_name(authority.get())) == 0 &&
           (X509_get_extension_flags(authority.get()) & EXFLAG_CA) != 0 &&
           (X509_get_key_usage(authority.get()) & KU_CRL_SIGN) != 0 &&
           X509_CRL_verify(&list, X509_get0_pubkey(authority.get())) == 1;
  });
  return signer == authorities.end() ? nullptr : signer->get();
}

std::vector<CertificatePtr> ReadAuthorities(std::string_view pem) {
  std::vector<CertificatePtr> authorities;
  if (pem.size() > kMaxPemBytes) return authorities;
  for (const PemBlock& block : BlocksOf(pem)) {
    CertificatePtr authority = IsCertificate(block) ? DecodeCertificate(block.bytes) : nullptr;
    if (authority != nullptr) authorities.push_back(std::move(authority));
  }
  return authorities;
}

}  // namespace

absl::StatusOr<Revocations> Revocations::Parse(std::string_view lists,
                                               std::string_view authorities) {
  constexpr size_t kMostBytes = 16 * 1024 * 1024;
  const Quiet quiet;
  Revocations revocations;
  if (lists.size() > kMostBytes) {
    return Invalid("more than 16 MiB", "leave out lists of authorities that are not used");
  }
  bool damaged = false;
  const std::vector<PemBlock> blocks = BlocksOf(lists, &damaged);
  const bool blank = std::ranges::all_of(lists, absl::ascii_isspace);
  if (damaged || (blocks.empty() && !blank)) {
    return Invalid("a damaged one, or none",
                   "make the file anew; lists in DER are converted with "
                   "openssl crl -inform der");
  }
  const std::vector<CertificatePtr> trusted = ReadAuthorities(authorities);
  for (const PemBlock& block : blocks) {
    ESPALIER_ASSIGN_OR_RETURN(const ListPtr list, ReadList(block));
    const std::string issuer = NameOf(X509_CRL_get_issuer(list.get()));
    if (!IsPlain(*list)) {
      return Invalid(fmt::format("one of {} that is about changes, or about certificates of "
                                 "others",
                                 issuer),
                     "ask that authority for a full list of its own");
    }
    X509* signer = SignerOf(*list, trusted);
    if (signer == nullptr) {
      return Invalid(fmt::format("one in the name of {}, which none of them signed", issuer),
                     "leave it out, or add that authority's certificate to the trusted ones");
    }
    const std::string key = HexOf(X509_get0_subject_key_id(signer));
    STACK_OF(X509_REVOKED)* entries = X509_CRL_get_REVOKED(list.get());
    for (int i = 0; i < sk_X509_REVOKED_num(entries); ++i) {
      const X509_REVOKED* entry = sk_X509_REVOKED_value(entries, i);
      revocations.revoked_.insert({SerialOf(X509_REVOKED_get0_serialNumber(entry)), key, issuer});
    }
    if (const ASN1_TIME* next = X509_CRL_get0_nextUpdate(list.get())) {
      revocations.next_update_ = std::min(revocations.next_update_, TimeOf(next));
    }
  }
  return revocations;
}

bool Revocations::Contains(const Certificate& certificate) const {
  const auto is_of = [&certificate](const Revoked& revoked) {
    const bool by_name = revoked.issuer_key.empty() || certificate.issuer_key.empty();
    return by_name ? revoked.issuer == certificate.issuer
                   : revoked.issuer_key == certificate.issuer_key;
  };
  for (auto i = revoked_.lower_bound({certificate.serial, "", ""});
       i != revoked_.end() && i->serial == certificate.serial; ++i) {
    if (is_of(*i)) return true;
  }
  return false;
}

}  // namespace espalier::pki
