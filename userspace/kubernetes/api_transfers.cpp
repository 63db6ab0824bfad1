#include "kubernetes/api_transfers.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <stdexcept>

namespace weir::kubernetes {
namespace {

constexpr long kFirstFinalStatus = 200, kUnauthorized = 401;
constexpr long kConnectTimeoutMs = 10'000;
constexpr unsigned kDeadPeerMs = 30'000;  // of a peer that acknowledges nothing
constexpr long kKeepaliveSeconds = 15;
constexpr long kCaCacheSeconds = 10;  // a renewed CA file is seen after that

// A server that knows no such form (an aggregated one) sends the whole.
const char* accept_of(ApiForm form) {
  switch (form) {
    case ApiForm::metadata:
      return "Accept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
    case ApiForm::metadata_list:
      return "Accept: application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    case ApiForm::whole:
      break;
  }
  return "Accept: application/json";
}

// A server that vanished without a word is noticed by the keepalive's probes, watch or not.
int on_socket(void* sockets, curl_socket_t fd, curlsocktype) {
  static_cast<std::set<int>*>(sockets)->insert(fd);
  setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &kDeadPeerMs, sizeof kDeadPeerMs);
  return CURL_SOCKOPT_OK;
}

int on_close(void* sockets, curl_socket_t fd) {
  static_cast<std::set<int>*>(sockets)->erase(fd);
  return close(fd);
}

int local_port(int fd) {
  sockaddr_in6 address{};  // of IPv4 the port stands at the same place
  socklen_t size = sizeof address;
  return getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0 ? ntohs(address.sin6_port) : 0;
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
  Transfer(const ApiAccess& access, const std::string& user_agent, ApiCaller& caller, base::Instant now,
           std::set<int>* sockets)
      : caller_(caller), easy_(curl_easy_init()) {
    if (!easy_) throw std::bad_alloc();
    const ApiRequest request = caller.begin(now);
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
    set(CURLOPT_SOCKOPTFUNCTION, &on_socket);
    set(CURLOPT_SOCKOPTDATA, sockets);
    set(CURLOPT_CLOSESOCKETFUNCTION, &on_close);
    set(CURLOPT_CLOSESOCKETDATA, sockets);
    set(CURLOPT_ERRORBUFFER, error_);
    set(CURLOPT_WRITEFUNCTION, &Transfer::on_bytes);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_HEADERFUNCTION, &Transfer::on_header);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_PRIVATE, this);
    set_credentials(access);
    header(accept_of(request.form));
    if (!request.body.empty()) set_body(request);
    set(CURLOPT_TIMEOUT_MS, std::chrono::duration_cast<std::chrono::milliseconds>(request.time_limit).count());
    set(CURLOPT_HTTPHEADER, headers_);
  }
  ~Transfer() {
    curl_easy_cleanup(easy_);
    curl_slist_free_all(headers_);
  }
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  CURL* easy() const { return easy_; }
  ApiCaller& caller() const { return caller_; }
  base::Instant silent_until() const { return heard_ + caller_.silence(); }
  std::string error_of(CURLcode code) const { return error_[0] ? error_ : curl_easy_strerror(code); }
  // Of its connection; 0: it has none.
  long port() const {
    long port = 0;
    curl_easy_getinfo(easy_, CURLINFO_LOCAL_PORT, &port);
    return port;
  }
  // Of the answer; 0: none yet.
  long status() const {
    long status = 0;
    curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
    return status;
  }
  void connect_anew() { set(CURLOPT_FRESH_CONNECT, 1L); }
  void tell_head() {
    if (head_told_) return;
    head_told_ = true;
    curl_off_t retry_after = 0;
    curl_easy_getinfo(easy_, CURLINFO_RETRY_AFTER, &retry_after);
    std::optional<base::Duration> wait;
    if (retry_after > 0) wait = std::chrono::seconds(std::min<curl_off_t>(retry_after, 3600));
    caller_.on_head(static_cast<int>(status()), wait);
  }

 private:
  template <class T>
  void set(CURLoption option, T value) {
    curl_easy_setopt(easy_, option, value);
  }
  void header(const char* line) { headers_ = curl_slist_append(headers_, line); }

  void set_body(const ApiRequest& request) {
    set(CURLOPT_CUSTOMREQUEST, request.method);
    set(CURLOPT_POSTFIELDSIZE, static_cast<long>(request.body.size()));
    set(CURLOPT_COPYPOSTFIELDS, request.body.c_str());
    header(("Content-Type: " + std::string(request.content_type)).c_str());
  }

  void set_credentials(const ApiAccess& access) {
    const std::string token = access.token_file.empty() ? access.token : first_line(access.token_file);
    if (!token.empty()) header(("Authorization: Bearer " + token).c_str());
    if (access.insecure) {
      set(CURLOPT_SSL_VERIFYPEER, 0L);
      set(CURLOPT_SSL_VERIFYHOST, 0L);
    }
    set(CURLOPT_CA_CACHE_TIMEOUT, kCaCacheSeconds);
    // The folder of public CAs, which libcurl reads besides, vouches for nobody here.
    if (!access.ca_file.empty() || !access.ca_pem.empty()) set(CURLOPT_CAPATH, static_cast<const char*>(nullptr));
    if (!access.ca_file.empty()) set(CURLOPT_CAINFO, access.ca_file.c_str());
    if (!access.ca_pem.empty()) set_pem(easy_, CURLOPT_CAINFO_BLOB, access.ca_pem);
    if (!access.certificate_file.empty()) set(CURLOPT_SSLCERT, access.certificate_file.c_str());
    if (!access.certificate_pem.empty()) set_pem(easy_, CURLOPT_SSLCERT_BLOB, access.certificate_pem);
    if (!access.key_file.empty()) set(CURLOPT_SSLKEY, access.key_file.c_str());
    if (!access.key_pem.empty()) set_pem(easy_, CURLOPT_SSLKEY_BLOB, access.key_pem);
  }

  static size_t on_bytes(char* bytes, size_t size, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const uint64_t before = transfer.caller_.progress();
    const bool goes_on = transfer.caller_.on_bytes({bytes, size * count});
    if (transfer.caller_.progress() != before) transfer.heard_ = base::MonotonicClock::now();
    return goes_on ? size * count : CURL_WRITEFUNC_ERROR;
  }

  // Line by line, with an empty one at the end; there may be heads of 1xx before.
  static size_t on_header(char* bytes, size_t size, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const std::string_view line(bytes, size * count);
    if ((line == "\r\n" || line == "\n") && transfer.status() >= kFirstFinalStatus && !transfer.head_told_) {
      transfer.heard_ = base::MonotonicClock::now();
      transfer.tell_head();
    }
    return size * count;
  }

  ApiCaller& caller_;
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

void ApiTransfers::start(ApiCaller& caller, base::Instant now) {
  transfers_.push_back(std::make_unique<Transfer>(access_, user_agent_, caller, now, &sockets_));
  if (distrustful_.contains(&caller)) transfers_.back()->connect_anew();
  curl_multi_add_handle(multi_, transfers_.back()->easy());
}

void ApiTransfers::cancel(const ApiCaller& caller) {
  distrustful_.erase(&caller);
  std::erase_if(transfers_, [&](const auto& transfer) {
    if (&transfer->caller() != &caller) return false;
    curl_multi_remove_handle(multi_, transfer->easy());
    return true;
  });
}

void ApiTransfers::end(Transfer& transfer, base::Instant now, const std::string& error) {
  ApiCaller& caller = transfer.caller();
  transfer.tell_head();
  const bool unknown = transfer.status() == kUnauthorized;
  cancel(caller);
  caller.on_end(now, error);
  // A client certificate is shown once a connection, and may have been renewed.
  if (unknown) distrustful_.insert(&caller);
}

// By a time limit. An answer that stays away may be the server's own affair while others come by that connection.
void ApiTransfers::end_late(Transfer& transfer, base::Instant now, const std::string& error) {
  const ApiCaller& caller = transfer.caller();
  const bool distrusts = !alone(transfer);
  if (!distrusts) shut_down(transfer);
  end(transfer, now, error);
  if (distrusts) distrustful_.insert(&caller);
}

void ApiTransfers::shut_down(const Transfer& transfer) const {
  const long port = transfer.port();
  for (const int fd : sockets_)
    if (port != 0 && local_port(fd) == port) shutdown(fd, SHUT_RDWR);
}

// On its connection.
bool ApiTransfers::alone(const Transfer& transfer) const {
  return std::none_of(transfers_.begin(), transfers_.end(),
                      [&](const auto& other) { return other.get() != &transfer && other->port() == transfer.port(); });
}

void ApiTransfers::run(base::Instant until) {
  for (const auto& transfer : transfers_) until = std::min(until, transfer->silent_until());
  const auto wait =
      std::chrono::ceil<std::chrono::milliseconds>(std::max(until - base::MonotonicClock::now(), base::Duration(0)));
  int running = 0;
  // Not before it: what is read then would be told after the sleep. Twice after it: what one transfer reads from a
  // connection may be another's, which has had its turn.
  curl_multi_poll(multi_, nullptr, 0, static_cast<int>(wait.count()), nullptr);
  curl_multi_perform(multi_, &running);
  curl_multi_perform(multi_, &running);
  const base::Instant now = base::MonotonicClock::now();
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    Transfer* transfer = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
    const CURLcode code = message->data.result;
    const std::string error = code == CURLE_OK ? std::string() : transfer->error_of(code);
    if (code == CURLE_OPERATION_TIMEDOUT) {
      end_late(*transfer, now, error);
    } else {
      end(*transfer, now, error);
    }
  }
  end_silent(now);
}

void ApiTransfers::end_silent(base::Instant now) {
  const auto silent = [&](const auto& transfer) { return transfer->silent_until() <= now; };
  while (true) {
    const auto found = std::find_if(transfers_.begin(), transfers_.end(), silent);
    if (found == transfers_.end()) return;
    shut_down(**found);
    end(**found, now, "the server has said nothing for too long");
  }
}

void ApiTransfers::wake() { curl_multi_wakeup(multi_); }

}  // namespace weir::kubernetes
