// Pipe: bytes on their way from one socket to another that are not copied (splice(2)): it refers to the kernel's
// pages that hold them. Pipes: those of a reactor's sockets; most bytes stay for less than a turn, so a few do.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/fd.h"

namespace weir::io {

class Pipe {
 public:
  // At most so many bytes are in it.
  static constexpr uint32_t kSize = 256 * 1024;

  // Null: the process may have no more descriptors, or the user no more pages in pipes.
  static std::unique_ptr<Pipe> create();

  // How many bytes are in it.
  uint32_t held() const { return held_; }
  // Moves what `socket`, which does not block, has received into an empty pipe, up to kSize: how many bytes, or -errno.
  // 0 and -EAGAIN where there is something to read: it can't be moved (the end, or behind urgent data).
  int fill(int socket);
  // Moves bytes out, as many as `socket`, which does not block, takes: how many, or -errno. The thread must not take
  // SIGPIPE.
  int drain(int socket);

 private:
  Pipe() = default;
  base::Fd read_, write_;
  uint32_t held_ = 0;
};

class Pipes {
 public:
  explicit Pipes(uint32_t most) : most_(most) {}
  // An empty one. Null: too many are in use, or the kernel gives none.
  std::unique_ptr<Pipe> take();
  // One that holds bytes is closed, and they are dropped.
  void give_back(std::unique_ptr<Pipe> pipe);
  // Closes those that were not needed since the last call.
  void trim();
  uint32_t most() const { return most_; }
  uint32_t in_use() const { return in_use_; }
  size_t idle() const { return idle_.size(); }

 private:
  const uint32_t most_;
  uint32_t in_use_ = 0;
  size_t spare_ = 0;  // the fewest that were idle since the last trim()
  std::vector<std::unique_ptr<Pipe>> idle_;
};

}  // namespace weir::io
