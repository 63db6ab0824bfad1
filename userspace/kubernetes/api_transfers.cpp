#include "kubernetes/api_transfers.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <stdexcept>

namespace weir::kubernetes {
namespace {

constexpr long kConnectTimeoutMs = 10'000;
constexpr unsigned kDeadPeerMs = 30'000;  // of a peer that acknowledges nothing
constexpr long kKeepaliveSeconds = 15;
constexpr long kCaCacheSeconds = 60;  // a renewed CA file is seen after that
constexpr char kMetadataOnly[] =
    "Accept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=1,"
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=1,application/json";

// A server that vanished without a word is noticed by the keepalive's probes, watch or not.
int set_socket_options(void*, curl_socket_t fd, curlsocktype) {
  setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &kDeadPeerMs, sizeof kDeadPeerMs);
  return CURL_SOCKOPT_OK;
}

void set_pem(CURL* easy, CURLoption option, const std::string& pem) {
  curl_blob blob{const_cast<char*>(pem.data()), pem.size(), CURL_BLOB_COPY};
  curl_easy_setopt(easy, option, &blob);
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
  return line;
}

}  // namespace

class ApiTransfers::Transfer {
 public:
  Transfer(const ApiAccess& access, const std::string& user_agent, Reflector& reflector, base::Instant now)
      : reflector_(reflector), easy_(curl_easy_init()) {
    if (!easy_) throw std::bad_alloc();
    const Reflector::Request request = reflector.begin(now);
    heard_ = now;
    set(CURLOPT_URL, (access.server + request.target).c_str());
    set(CURLOPT_USERAGENT, user_agent.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_NOPROXY, "*");
    set(CURLOPT_ACCEPT_ENCODING, "gzip");
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
    // Without TLS there is no HTTP/2, and libcurl 7.88 learns it too late: what waits would wait for a watch's end.
    set(CURLOPT_PIPEWAIT, access.server.starts_with("https:") ? 1L : 0L);
    set(CURLOPT_CONNECTTIMEOUT_MS, kConnectTimeoutMs);
    set(CURLOPT_TCP_KEEPALIVE, 1L);
    set(CURLOPT_TCP_KEEPIDLE, kKeepaliveSeconds);
    set(CURLOPT_TCP_KEEPINTVL, kKeepaliveSeconds);
    set(CURLOPT_SOCKOPTFUNCTION, &set_socket_options);
    set(CURLOPT_ERRORBUFFER, error_);
    set(CURLOPT_WRITEFUNCTION, &Transfer::on_bytes);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_PRIVATE, this);
    set_credentials(access);
    if (request.metadata_only) header(kMetadataOnly);
    set(CURLOPT_HTTPHEADER, headers_);
  }
  ~Transfer() {
    curl_easy_cleanup(easy_);
    curl_slist_free_all(headers_);
  }
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  CURL* easy() const { return easy_; }
  Reflector& reflector() const { return reflector_; }
  base::Instant silent_until() const { return heard_ + reflector_.silence(); }
  std::string error_of(CURLcode code) const { return error_[0] ? error_ : curl_easy_strerror(code); }
  void tell_head() {
    if (head_told_) return;
    head_told_ = true;
    long status = 0;
    curl_off_t retry_after = 0;
    curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(easy_, CURLINFO_RETRY_AFTER, &retry_after);
    std::optional<base::Duration> wait;
    if (retry_after > 0) wait = std::chrono::seconds(std::min<curl_off_t>(retry_after, 3600));
    reflector_.on_head(static_cast<int>(status), wait);
  }

 private:
  template <class T>
  void set(CURLoption option, T value) {
    curl_easy_setopt(easy_, option, value);
  }
  void header(const char* line) { headers_ = curl_slist_append(headers_, line); }

  void set_credentials(const ApiAccess& access) {
    const std::string token = access.token_file.empty() ? access.token : first_line(access.token_file);
    if (!token.empty()) header(("Authorization: Bearer " + token).c_str());
    if (access.insecure) {
      set(CURLOPT_SSL_VERIFYPEER, 0L);
      set(CURLOPT_SSL_VERIFYHOST, 0L);
    }
    set(CURLOPT_CA_CACHE_TIMEOUT, kCaCacheSeconds);
    if (!access.ca_file.empty()) set(CURLOPT_CAINFO, access.ca_file.c_str());
    if (!access.ca_pem.empty()) set_pem(easy_, CURLOPT_CAINFO_BLOB, access.ca_pem);
    if (!access.certificate_file.empty()) set(CURLOPT_SSLCERT, access.certificate_file.c_str());
    if (!access.certificate_pem.empty()) set_pem(easy_, CURLOPT_SSLCERT_BLOB, access.certificate_pem);
    if (!access.key_file.empty()) set(CURLOPT_SSLKEY, access.key_file.c_str());
    if (!access.key_pem.empty()) set_pem(easy_, CURLOPT_SSLKEY_BLOB, access.key_pem);
  }

  static size_t on_bytes(char* bytes, size_t size, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    transfer.heard_ = base::MonotonicClock::now();
    transfer.tell_head();
    return transfer.reflector_.on_bytes({bytes, size * count}) ? size * count : CURL_WRITEFUNC_ERROR;
  }

  Reflector& reflector_;
  CURL* easy_;
  curl_slist* headers_ = nullptr;
  char error_[CURL_ERROR_SIZE] = {};
  bool head_told_ = false;
  base::Instant heard_{};
};

ApiTransfers::ApiTransfers(ApiAccess access, std::string user_agent)
    : access_(std::move(access)), user_agent_(std::move(user_agent)) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  multi_ = initialised == CURLE_OK ? curl_multi_init() : nullptr;
  if (!multi_) throw std::runtime_error("libcurl cannot be used");
  curl_multi_setopt(multi_, CURLMOPT_PIPELINING, static_cast<long>(CURLPIPE_MULTIPLEX));
}

ApiTransfers::~ApiTransfers() {
  for (const auto& transfer : transfers_) curl_multi_remove_handle(multi_, transfer->easy());
  transfers_.clear();
  curl_multi_cleanup(multi_);
}

void ApiTransfers::start(Reflector& reflector, base::Instant now) {
  transfers_.push_back(std::make_unique<Transfer>(access_, user_agent_, reflector, now));
  curl_multi_add_handle(multi_, transfers_.back()->easy());
}

void ApiTransfers::cancel(const Reflector& reflector) {
  std::erase_if(transfers_, [&](const auto& transfer) {
    if (&transfer->reflector() != &reflector) return false;
    curl_multi_remove_handle(multi_, transfer->easy());
    return true;
  });
}

void ApiTransfers::end(Transfer& transfer, base::Instant now, const std::string& error) {
  Reflector& reflector = transfer.reflector();
  transfer.tell_head();
  cancel(reflector);
  reflector.on_end(now, error);
}

void ApiTransfers::run(base::Instant until) {
  for (const auto& transfer : transfers_) until = std::min(until, transfer->silent_until());
  const auto wait =
      std::chrono::ceil<std::chrono::milliseconds>(std::max(until - base::MonotonicClock::now(), base::Duration(0)));
  int running = 0;
  curl_multi_perform(multi_, &running);
  curl_multi_poll(multi_, nullptr, 0, static_cast<int>(wait.count()), nullptr);
  curl_multi_perform(multi_, &running);
  const base::Instant now = base::MonotonicClock::now();
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    Transfer* transfer = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
    const CURLcode code = message->data.result;
    end(*transfer, now, code == CURLE_OK ? std::string() : transfer->error_of(code));
  }
  const auto silent = [&](const auto& transfer) { return transfer->silent_until() <= now; };
  while (true) {
    const auto found = std::find_if(transfers_.begin(), transfers_.end(), silent);
    if (found == transfers_.end()) break;
    end(**found, now, "the server has said nothing for too long");
  }
}

void ApiTransfers::wake() { curl_multi_wakeup(multi_); }

}  // namespace weir::kubernetes
