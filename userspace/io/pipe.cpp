#include "io/pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

namespace weir::io {

std::unique_ptr<Pipe> Pipe::create() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return nullptr;
  std::unique_ptr<Pipe> pipe(new Pipe);
  pipe->read_ = base::Fd(ends[0]);
  pipe->write_ = base::Fd(ends[1]);
  // It has as many slots as pages: with fewer there would be more calls than copying takes.
  if (fcntl(ends[1], F_SETPIPE_SZ, kSize) < 0) return nullptr;
  return pipe;
}

int Pipe::fill(int socket) {
  assert(held_ == 0);
  const ssize_t moved = splice(socket, nullptr, write_.get(), nullptr, kSize, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (moved < 0) return -errno;
  held_ = static_cast<uint32_t>(moved);
  return static_cast<int>(moved);
}

int Pipe::drain(int socket) {
  const ssize_t moved = splice(read_.get(), nullptr, socket, nullptr, held_, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (moved < 0) return -errno;
  held_ -= static_cast<uint32_t>(moved);
  return static_cast<int>(moved);
}

std::unique_ptr<Pipe> Pipes::take() {
  if (in_use_ == most_) return nullptr;
  std::unique_ptr<Pipe> pipe;
  if (idle_.empty()) {
    pipe = Pipe::create();
  } else {
    pipe = std::move(idle_.back());
    idle_.pop_back();
  }
  spare_ = std::min(spare_, idle_.size());
  if (pipe) ++in_use_;
  return pipe;
}

void Pipes::give_back(std::unique_ptr<Pipe> pipe) {
  --in_use_;
  if (pipe->held() == 0) idle_.push_back(std::move(pipe));
}

void Pipes::trim() {
  idle_.erase(idle_.begin(), idle_.begin() + static_cast<ptrdiff_t>(spare_));
  spare_ = idle_.size();
}

}  // namespace weir::io
