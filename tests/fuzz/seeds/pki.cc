#include <openssl/pem.h>

#include <string>

#include "absl/time/time.h"
#include "common/pki/authority.h"
#include "common/pki/key.h"
#include "common/pki/openssl.h"
#include "tests/fuzz/seeds/seeds.h"

namespace espalier::fuzz {
namespace {

std::string DerOf(const std::string& pem) { return pki::BlocksOf(pem).at(0).bytes; }

}  // namespace

void AddPkiSeeds(const Seeds& seeds) {
  constexpr char kTarget[] = "certificates";
  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  const pki::AuthorityFiles root = pki::NewRoot(now, absl::Hours(1'000));
  const pki::AuthorityFiles workers =
      pki::NewWorkerAuthority(root, now, absl::Hours(1'000)).value();
  const pki::Authority authority = pki::Authority::Load(root).value();
  const std::string key = pki::NewKey();
  const std::string user = authority
                               .Issue({.identity = {pki::Role::kViewer, "dash"},
                                       .hosts = {"dash.example.org", "10.0.0.1", "::1"},
                                       .now = now,
                                       .lifetime = absl::Hours(10)},
                                      key)
                               .value();
  const std::string request = pki::NewSigningRequest(key).value();
  const std::string list = authority.Revoke({"1", "abc"}, now, absl::Hours(1)).value();
  seeds.Add(kTarget, "root", Chosen(0, 1) + DerOf(root.certificate));
  seeds.Add(kTarget, "workers", Chosen(0, 1) + DerOf(workers.certificate));
  seeds.Add(kTarget, "user", Chosen(0, 1) + DerOf(user));
  seeds.Add(kTarget, "chain", Chosen(0, 0) + user + workers.certificate);
  seeds.Add(kTarget, "request", Chosen(1, 0) + request);
  seeds.Add(kTarget, "request.der", Chosen(1, 1) + DerOf(request));
  seeds.Add(kTarget, "list", Chosen(2, 0) + list);
  seeds.Add(kTarget, "list.der", Chosen(2, 1) + DerOf(list));
  seeds.Add(kTarget, "key", Chosen(3, 0) + key);
  seeds.Add(kTarget, "key.der", Chosen(3, 1) + DerOf(key));
  seeds.Add(kTarget, "uri", Chosen(4, 0) + pki::UriOf({pki::Role::kWorker, "edge-1"}));
}

}  // namespace espalier::fuzz
