#include "common/rpc/tls_material.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <spdlog/spdlog.h>

#include <ctime>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/atomic_file.h"

namespace strata::rpc {
namespace {

constexpr size_t kMaxPemBytes = size_t{8} << 20;

template <auto free>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    free(object);
  }
};
using Bio = std::unique_ptr<BIO, Free<BIO_free>>;
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;

Bio Open(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// Without it OpenSSL asks for the password of an encrypted key on the terminal.
int NoPassword(char*, int, int, void*) { return 0; }

absl::Status Bad(const char* what, const std::string& path, absl::string_view why) {
  ERR_clear_error();
  return absl::InvalidArgumentError(absl::StrCat("the ", what, " file '", path, "' ", why));
}

absl::StatusOr<std::string> ReadPem(const std::string& path, const char* what) {
  if (path.empty()) return "";
  auto pem = ReadWholeFile(path, kMaxPemBytes);
  if (!pem.ok()) {
    return absl::Status(
        pem.status().code(),
        absl::StrCat("the ", what, " file cannot be read: ", pem.status().message()));
  }
  if (pem->empty()) return Bad(what, path, "is empty");
  if (pem->find("-----BEGIN ") == std::string::npos) return Bad(what, path, "is not PEM");
  return pem;
}

absl::StatusOr<std::vector<Certificate>> ParseCertificates(const std::string& pem,
                                                           const std::string& path,
                                                           const char* what) {
  const Bio bio = Open(pem);
  std::vector<Certificate> certificates;
  ERR_clear_error();
  while (X509* next = PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr)) {
    certificates.emplace_back(next);
  }
  // The end of the text is reported as an error too.
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (!at_end) {
    return Bad(
        what, path,
        absl::StrCat("is damaged: certificate ", certificates.size() + 1, " cannot be read"));
  }
  if (certificates.empty()) return Bad(what, path, "holds no certificate");
  return certificates;
}

absl::StatusOr<absl::Time> NotAfter(const X509& certificate) {
  std::tm time = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &time) != 1) {
    return absl::InvalidArgumentError("no time");
  }
  return absl::FromTM(time, absl::UTCTimeZone());
}

constexpr char kCert[] = "TLS certificate";
constexpr char kKey[] = "TLS key";
constexpr char kAuthorities[] = "TLS certificate authority";

absl::StatusOr<TlsMaterial> ReadTexts(const TlsFiles& files) {
  auto key = ReadPem(files.key_file, kKey);
  if (!key.ok()) return key.status();
  auto cert = ReadPem(files.cert_file, kCert);
  if (!cert.ok()) return cert.status();
  auto ca = ReadPem(files.ca_file, kAuthorities);
  if (!ca.ok()) return ca.status();
  return TlsMaterial{.cert = *std::move(cert), .key = *std::move(key), .ca = *std::move(ca)};
}

// What `material.not_after` is to be.
absl::StatusOr<absl::Time> Check(const TlsFiles& files, const TlsMaterial& material) {
  if (!material.ca.empty()) {
    auto authorities = ParseCertificates(material.ca, files.ca_file, kAuthorities);
    if (!authorities.ok()) return authorities.status();
  }
  if (material.cert.empty()) return absl::InfiniteFuture();
  auto chain = ParseCertificates(material.cert, files.cert_file, kCert);
  if (!chain.ok()) return chain.status();
  const Bio bio = Open(material.key);
  const Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) {
    return Bad(kKey, files.key_file, "holds no private key that can be read without a password");
  }
  if (X509_check_private_key(chain->front().get(), key.get()) != 1) {
    return Bad(kKey, files.key_file,
               absl::StrCat("is not the key of the first certificate in '", files.cert_file, "'"));
  }
  auto not_after = NotAfter(*chain->front());
  if (!not_after.ok()) return Bad(kCert, files.cert_file, "says no time at which it expires");
  return not_after;
}

absl::Status CheckExpiry(const TlsFiles& files, absl::Time not_after) {
  if (absl::Now() < not_after) return absl::OkStatus();
  return Bad(kCert, files.cert_file,
             absl::StrCat("expired at ", absl::FormatTime(not_after, absl::UTCTimeZone())));
}

}  // namespace

absl::StatusOr<TlsMaterial> ReadTlsFiles(const TlsFiles& files) {
  auto material = ReadTexts(files);
  if (!material.ok()) return material;
  auto not_after = Check(files, *material);
  if (!not_after.ok()) return not_after.status();
  material->not_after = *not_after;
  return material;
}

absl::StatusOr<std::unique_ptr<ReloadingTls>> OpenReloadingTls(const TlsFiles& files) {
  ReloadingTls::Source source;
  source.read = [files] { return ReadTexts(files); };
  source.parse = [files,
                  first = true](const TlsMaterial& text) mutable -> absl::StatusOr<TlsMaterial> {
    auto not_after = Check(files, text);
    if (!not_after.ok()) return not_after.status();
    const absl::Status expiry = CheckExpiry(files, *not_after);
    if (!expiry.ok() && !first) return expiry;
    if (!expiry.ok()) spdlog::warn("{}: peers will refuse it", std::string(expiry.message()));
    first = false;
    TlsMaterial material = text;
    material.not_after = *not_after;
    return material;
  };
  source.report = [files](const absl::Status& status) {
    const std::string& name = files.cert_file.empty() ? files.ca_file : files.cert_file;
    if (status.ok()) {
      spdlog::info("TLS files of '{}' changed: new connections use them", name);
    } else {
      spdlog::error("{}; the TLS files read before stay in use", std::string(status.message()));
    }
  };
  return ReloadingTls::Open(std::move(source));
}

}  // namespace strata::rpc
