// C++'s client of the matrix: client TARGET [--tls CA] CASE...  (grpc_rows.py says what each case is)

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;

// What ends a case early.
struct Failed : std::runtime_error {
  explicit Failed(const grpc::Status& status)
      : std::runtime_error("failed with " + std::to_string(status.error_code()) + " " + status.error_message()) {}
};

std::string block(int number, size_t size) { return std::string(size, static_cast<char>(number)); }

class Sum {
 public:
  Sum() : context_(EVP_MD_CTX_new()) { EVP_DigestInit_ex(context_, EVP_sha256(), nullptr); }
  ~Sum() { EVP_MD_CTX_free(context_); }
  void add(const std::string& bytes) { EVP_DigestUpdate(context_, bytes.data(), bytes.size()); }
  std::string hex() {
    unsigned char digest[32];
    EVP_DigestFinal_ex(context_, digest, nullptr);
    return to_hex({reinterpret_cast<char*>(digest), sizeof digest});
  }
  static std::string to_hex(const std::string& bytes) {
    static const char* const kDigits = "0123456789abcdef";
    std::string text;
    for (const unsigned char byte : bytes) (text += kDigits[byte >> 4]) += kDigits[byte & 15];
    return text;
  }

 private:
  EVP_MD_CTX* context_;
};

// A call of any kind, an operation at a time.
class Call {
 public:
  Call(grpc::GenericStub& stub, const std::string& method, std::chrono::milliseconds timeout = 60s,
       const std::function<void(grpc::ClientContext&)>& prepare = nullptr) {
    context_.set_deadline(std::chrono::system_clock::now() + timeout);
    if (prepare) prepare(context_);
    stream_ = stub.PrepareCall(&context_, method[0] == '/' ? method : "/weir.Matrix/" + method, &queue_);
    stream_->StartCall(nullptr);
    wait();
  }
  ~Call() {
    context_.TryCancel();
    queue_.Shutdown();
    void* tag = nullptr;
    for (bool ok = false; queue_.Next(&tag, &ok);) continue;
  }

  bool write(const std::string& message) {
    const grpc::Slice slice(message);
    stream_->Write(grpc::ByteBuffer(&slice, 1), nullptr);
    return wait();
  }
  void half_close() {
    stream_->WritesDone(nullptr);
    wait();
  }
  bool read(std::string& message) {
    grpc::ByteBuffer buffer;
    stream_->Read(&buffer, nullptr);
    if (!wait()) return false;
    std::vector<grpc::Slice> slices;
    message.clear();
    if (buffer.Valid() && buffer.Dump(&slices).ok()) {
      for (const grpc::Slice& slice : slices)
        message.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
    return true;
  }
  std::string exchange(const std::string& message) {
    std::string answer;
    if (!write(message) || !read(answer)) throw Failed(finish());
    return answer;
  }
  grpc::Status finish() {
    grpc::Status status;
    stream_->Finish(&status, nullptr);
    wait();
    return status;
  }
  void end() {
    half_close();
    std::string nothing;
    while (read(nothing)) throw std::runtime_error("more than was asked");
    if (const grpc::Status status = finish(); !status.ok()) throw Failed(status);
  }
  void cancel() { context_.TryCancel(); }
  std::string header(const std::string& key) const { return value(context_.GetServerInitialMetadata(), key); }
  std::string trailer(const std::string& key) const { return value(context_.GetServerTrailingMetadata(), key); }

 private:
  static std::string value(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata, const std::string& key) {
    const auto found = metadata.find(key);
    return found == metadata.end() ? "" : std::string(found->second.data(), found->second.size());
  }
  bool wait() {
    void* tag = nullptr;
    bool ok = false;
    queue_.Next(&tag, &ok);
    return ok;
  }

  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
};

// A call with one message each way.
std::string unary_call(grpc::GenericStub& stub, const std::string& method, const std::string& message) {
  Call call(stub, method);
  std::string answer;
  call.write(message);
  call.half_close();
  const bool answered = call.read(answer);
  if (const grpc::Status status = call.finish(); !status.ok() || !answered) throw Failed(status);
  return answer;
}

grpc::Status failure(grpc::GenericStub& stub, const std::string& method, std::chrono::milliseconds timeout = 30s) {
  Call call(stub, method, timeout);
  call.write("");
  call.half_close();
  std::string nothing;
  while (call.read(nothing)) continue;
  return call.finish();
}

std::string unary(grpc::GenericStub& stub) {
  int echoed = 0;
  std::set<std::string> servers;
  for (int number = 0; number < 30; ++number) {
    Call call(stub, "Echo");
    echoed += call.exchange(block(number, 100)) == block(number, 100);
    call.end();
    servers.insert(call.header("x-server"));
  }
  std::cout << "# " << servers.size() << " servers\n";
  return std::to_string(echoed) + " echoed";
}

std::string down(grpc::GenericStub& stub) {
  Call call(stub, "Down");
  call.write("1000 1024");
  call.half_close();
  size_t count = 0, size = 0;
  Sum sum;
  for (std::string message; call.read(message); ++count) {
    size += message.size();
    sum.add(message);
  }
  if (const grpc::Status status = call.finish(); !status.ok()) throw Failed(status);
  return std::to_string(count) + " messages, " + std::to_string(size) + " bytes, " + sum.hex().substr(0, 16);
}

std::string up(grpc::GenericStub& stub) {
  Call call(stub, "Up");
  for (int number = 0; number < 1000; ++number) call.write(block(number, 1024));
  call.half_close();
  std::string answer;
  if (!call.read(answer)) throw Failed(call.finish());
  return answer;
}

std::string both(grpc::GenericStub& stub) {
  Call call(stub, "Both");
  int echoed = 0;
  for (int number = 0; number < 200; ++number) echoed += call.exchange(block(number, 50)) == block(number, 50);
  call.end();
  return std::to_string(echoed) + " echoed";
}

std::string large(grpc::GenericStub& stub) {
  const std::string message = block(7, 50 << 20);
  const std::string answer = unary_call(stub, "Echo", message);
  return std::to_string(answer.size()) + (answer == message ? " echoed" : " changed");
}

std::string metadata(grpc::GenericStub& stub) {
  Call call(stub, "Echo", 30s, [](grpc::ClientContext& context) { context.AddMetadata("x-echo", block('m', 8192)); });
  call.exchange("x");
  call.end();
  return std::to_string(call.header("x-echo").size()) + " in headers, " +
         std::to_string(call.trailer("x-echo-trailer").size()) + " in trailers";
}

std::string cancel(grpc::GenericStub& stub) {
  const std::string id =
      std::to_string(getpid()) + "-" + std::to_string(std::chrono::system_clock::now().time_since_epoch().count());
  Call call(stub, "Both", 30s, [&id](grpc::ClientContext& context) { context.AddMetadata("x-id", id); });
  if (call.exchange(block(1, 10)) != block(1, 10)) return "silent";
  call.cancel();
  for (int tries = 0; tries < 100; ++tries) {
    if (unary_call(stub, "Cancelled", id) == "1") return "echoed, the server heard";
    std::this_thread::sleep_for(30ms);
  }
  return "the server did not hear";
}

std::string deadline(grpc::GenericStub& stub) {
  std::string codes;
  for (int number = 0; number < 20; ++number) {
    codes += (number == 0 ? "" : " ") + std::to_string(failure(stub, "Sleep", 50ms).error_code());
  }
  return codes;
}

std::string compressed(grpc::GenericStub& stub) {
  Call call(stub, "Echo", 30s,
            [](grpc::ClientContext& context) { context.set_compression_algorithm(GRPC_COMPRESS_GZIP); });
  const std::string answer = call.exchange(block(1, 100'000));
  call.end();
  return std::to_string(answer.size()) + " echoed, " + call.header("x-encoding");
}

std::string reflection(grpc::GenericStub& stub) {
  Call call(stub, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
  Sum sum;
  sum.add(call.exchange(std::string(":\0", 2)));
  call.end();
  return sum.hex();
}

std::string keepalive(grpc::GenericStub& stub) {
  Call call(stub, "Both");
  for (const auto pause : {17s, 0s}) {
    if (call.exchange(block(1, 10)) != block(1, 10)) return "dead";
    std::this_thread::sleep_for(pause);
  }
  call.end();
  return "alive";
}

std::string pinged(grpc::GenericStub& stub) {
  std::map<std::string, std::string> connections;
  for (const auto pause : {8s, 0s}) {
    for (int number = 0; number < 30; ++number) {
      Call call(stub, "Echo");
      call.exchange(block(1, 10));
      call.end();
      const std::string connection = call.header("x-connection");
      if (connections.emplace(call.header("x-server"), connection).first->second != connection)
        return "another connection";
    }
    std::this_thread::sleep_for(pause);
  }
  return "alive";
}

const std::map<std::string, std::string (*)(grpc::GenericStub&)> kCases = {
    {"unary", unary},
    {"down", down},
    {"up", up},
    {"both", both},
    {"large", large},
    {"metadata", metadata},
    {"cancel", cancel},
    {"deadline", deadline},
    {"status",
     [](grpc::GenericStub& stub) {
       const grpc::Status status = failure(stub, "Fail");
       return std::to_string(status.error_code()) + " " + status.error_message();
     }},
    {"unimplemented", [](grpc::GenericStub& stub) { return std::to_string(failure(stub, "Nothing").error_code()); }},
    {"compressed", compressed},
    {"health",
     [](grpc::GenericStub& stub) { return Sum::to_hex(unary_call(stub, "/grpc.health.v1.Health/Check", "")); }},
    {"reflection", reflection},
    {"keepalive", keepalive},
    {"pinged", pinged},
};

std::string contents(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace

int main(int argc, char** argv) {
  // Nobody else answers pings while no call is waited for.
  setenv("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "500", 1);
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const std::string target = arguments.at(0);
  arguments.erase(arguments.begin());
  auto credentials = grpc::InsecureChannelCredentials();
  if (arguments.at(0) == "--tls") {
    grpc::SslCredentialsOptions authority;
    authority.pem_root_certs = contents(arguments.at(1));
    credentials = grpc::SslCredentials(authority);
    arguments.erase(arguments.begin(), arguments.begin() + 2);
  }
  grpc::ChannelArguments options;
  options.SetMaxReceiveMessageSize(-1);
  options.SetMaxSendMessageSize(-1);
  options.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  options.SetInt(GRPC_ARG_MAX_METADATA_SIZE, 32 << 10);
  options.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 3000);
  options.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
  options.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  grpc::GenericStub stub(grpc::CreateCustomChannel(target, credentials, options));
  for (const std::string& name : arguments) {
    std::string said;
    try {
      said = kCases.at(name)(stub);
    } catch (const std::exception& error) {
      said = error.what();
    }
    std::cout << name << ": " << said << std::endl;
  }
}
