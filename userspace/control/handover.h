// Handover: an agent takes over from the one that runs with the same folder, as in a rolling update of the DaemonSet.
// The new one reads its configuration, opens listeners of its own in every pod and takes the pods' rows; then it tells
// the old one, which diverts nothing from then on and drains. Their connection (a unix socket in the folder) stays: if
// it ends, the new one is gone. No listener changes hands: a pod's row leads to one agent or the other, never to none.
// Control thread.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

namespace weir::control {

class Handover {
 public:
  enum class Event { none, superseded, successor_gone };
  static constexpr base::Duration kPatience = std::chrono::seconds(2);  // with a predecessor that may be hung

  // Looks for an agent that runs with the folder.
  static base::Result<Handover> open(const std::string& run_dir);
  Handover(Handover&&) = default;
  Handover& operator=(Handover&&) = delete;
  ~Handover();

  bool has_predecessor() const { return static_cast<bool>(predecessor_); }
  // Tells the predecessor, if there is one, waits until it has let go, and becomes the one that a successor finds. An
  // error says that the predecessor did not answer; all else is done.
  base::Result<void> take_over();
  // Readable: call on_readable(). -1 before take_over().
  int fd() const { return successor_ ? successor_.get() : listener_.get(); }
  Event on_readable();
  // Whether another agent is about to take over from this one, or has done so and runs.
  bool has_successor();
  // To the successor: this agent diverts nothing any more.
  void let_go();

 private:
  explicit Handover(std::string path) : path_(std::move(path)) {}
  base::Result<void> listen();
  void accept();

  std::string path_;
  base::Fd predecessor_, listener_, successor_;
  ino_t inode_ = 0;  // of the listener's name
};

}  // namespace weir::control
